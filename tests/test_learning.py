"""Every preset learns a bandit, and a task of two turns whose first choice alone matters and is paid at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archer
from archer.algorithms.credit import CREDITS
from archer.algorithms.low.spoken import siblings_advantage
from archer.algorithms.presets import PRESETS
from archer.config.layers import Layer
from archer.gathering import collect
from archer.models.batch import collate
from archer.recipe import compose
from archer.resuming import restore
from archer.storage.runfolder import RunFolder
from tests.runs import TASK

ONLINE = {"rollout": {"games": 16}, "iterations": 18, "warmup": 3}
OFFLINE = {"iterations": 24, "warmup": 8}
MORE: dict[str, dict[str, Any]] = {
    # What a preset is tuned for is a task a thousand times larger. What `archer` learns before its first game would be
    # enough here.
    "archer": {"iterations": 16, "critic_start": {"epochs": 0}, "actor_start": {"epochs": 0}},
    "chai": {"critic_start": {"epochs": 0}},
    "filtered-bc": {"actor": {"best": 0.2}},
    "grpo": {"warmup": 0},
    "gigpo": {"warmup": 0},
    "filtered-bc-offline": {"actor": {"best": 0.2}},
    "archer-offline": {"actor": {"beta": 4.0}},
    "sarsa-awr": {"actor": {"beta": 4.0}},
    "iql-reinforce-bc": {
        "iterations": 36,
        "warmup": 12,
        "actor": {"kl": 0.1},
        "critic": {"trace": 0.9, "updates": 10, "lr": 1e-3, "matrix_lr": 2e-3},
    },
}


@pytest.fixture(scope="session")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each task's supervised start, which all presets go on from."""
    folder = tmp_path_factory.mktemp("starts")
    for env in ("TwoSteps", "Bandit"):
        layers = [Layer(TASK, "test"), Layer({"iterations": 0}, "test")]
        archer.train(compose(layers, preset="bc", env=f"tests.worlds:{env}"), folder / env)
    return {env: folder / env for env in ("TwoSteps", "Bandit")}


def _learned(preset: str, start: Path, run: Path, **changes: Any) -> tuple[float, float]:
    """Mean return of the supervised start and after training."""
    layers = [
        Layer({"start_from": str(start)}, "test"),
        Layer(TASK, "test"),
        Layer(OFFLINE if _offline(preset) else ONLINE, "test"),
        Layer(MORE.get(preset, {}), "test"),
        Layer(changes, "test"),
    ]
    summary = archer.train(compose(layers, preset=preset, env=f"tests.worlds:{start.name}"), run)
    assert summary.start_return is not None and summary.return_mean is not None
    return summary.start_return, summary.return_mean


def _offline(preset: str) -> bool:
    return bool(PRESETS[preset].settings("x").get("rollout", {}).get("games") == 0)


LEARNERS = [name for name in PRESETS if name not in ("bc", "archer-paper")]
"""`bc` learns nothing more, and the pieces of `archer-paper` are all tried elsewhere; its encoder takes minutes."""


@pytest.mark.parametrize("preset", LEARNERS)
def test_every_preset_learns_which_first_word_is_paid_at_the_end(
    preset: str, starts: dict[str, Path], tmp_path: Path
) -> None:
    start, end = _learned(preset, starts["TwoSteps"], tmp_path / "run")
    # Four words at random win a quarter of the games; the best of five samples of them at most three quarters, and a
    # third or so where the critic that chooses knows nothing.
    assert start < 0.45
    assert end > start + 0.1 if preset == "chai" else end > 0.6


@pytest.mark.parametrize(
    "preset",
    [name if name in ("grpo", "filtered-bc") else pytest.param(name, marks=pytest.mark.slow) for name in LEARNERS],
)
def test_every_preset_learns_a_two_armed_bandit(preset: str, starts: dict[str, Path], tmp_path: Path) -> None:
    iterations = 30 if _offline(preset) else 16
    start, end = _learned(preset, starts["Bandit"], tmp_path / "run", iterations=iterations)
    # One arm pays in 9 of 10 games, the other in 1; at random half.
    assert end > max(0.62, start + 0.1)


@pytest.mark.parametrize(
    ("preset", "lowest", "highest"),
    [
        ("archer-reinforce", 1.5, 99.0),
        pytest.param("turn-ppo", 1.5, 99.0, marks=pytest.mark.slow),
        ("ppo", 1.2, 99.0),
        pytest.param("gigpo", 1.4, 99.0, marks=pytest.mark.slow),
        ("grpo", 0.99, 1.01),
    ],
)
def test_credit_reaches_the_turn_that_decided(
    preset: str, lowest: float, highest: float, starts: dict[str, Path], tmp_path: Path
) -> None:
    """Size of the advantages of first utterances, which alone are paid, over that of the second ones."""
    _learned(preset, starts["TwoSteps"], tmp_path / "run", iterations=15)
    run = restore(RunFolder.open(tmp_path / "run"))
    games = collect(run, run.agent.actor, run.iteration + 1, run.agent.policy_version).episodes
    if preset == "archer-reinforce":
        fresh = run.sampler.sample(games, 4, [0])
        with torch.no_grad():
            sizes = siblings_advantage(run.agent.learned_critic(collate(games, fresh))).abs().mean(dim=1).reshape(-1, 2)
        first, second = sizes.mean(dim=0).tolist()
    else:
        shares = CREDITS[run.config.actor.advantage](games, run.agent.critic, run.config.critic)
        cuts = [len(game.turns[0].utterance.ids) for game in games]
        first = np.mean([np.abs(share[:cut]).mean() for share, cut in zip(shares, cuts, strict=True)])
        second = np.mean([np.abs(share[cut:]).mean() for share, cut in zip(shares, cuts, strict=True)])
    assert lowest < first / second < highest  # GRPO pays every turn alike, by construction


def test_uniform_credit_needs_more_games_for_a_gradient_as_accurate(starts: dict[str, Path], tmp_path: Path) -> None:
    """The policy gradient of the same sixteen games with credit per turn and with GRPO's, which moves second words too.

    The square of its mean over its variance says how many games an accuracy takes: that goes as one over it.
    """
    critic = {"updates": 30}
    games = {"games": 16, "group": 8}
    _learned("turn-ppo", starts["TwoSteps"], tmp_path / "run", iterations=6, warmup=6, rollout=games, critic=critic)
    run = restore(RunFolder.open(tmp_path / "run"))
    weights = list(run.agent.actor.parameters())
    gradients: dict[str, list[torch.Tensor]] = {"gae": [], "group": []}
    for batch in range(60):
        played = collect(run, run.agent.actor, run.iteration + 1 + batch, run.agent.policy_version).episodes
        states = collate(played)
        hidden = run.agent.actor.hidden(states)
        logprobs = run.agent.actor.utterance_logprobs(hidden, states, states.utterance_tokens())
        for name, found in gradients.items():
            shares = torch.from_numpy(np.concatenate(CREDITS[name](played, run.agent.critic, run.config.critic)))
            slopes = torch.autograd.grad((logprobs * shares).sum() / len(played), weights, retain_graph=True)
            found.append(torch.cat([slope.reshape(-1) for slope in slopes]))
    turn, uniform = (torch.stack(found) for found in gradients.values())
    assert torch.cosine_similarity(turn.mean(dim=0), uniform.mean(dim=0), dim=0) > 0.95  # both go the same way
    assert _accuracy(turn) > 1.7 * _accuracy(uniform) > 0


def _accuracy(gradients: torch.Tensor) -> float:
    """Square of the mean of gradients of as many batches, [batches, weights], over the variance of one."""
    variance = float(gradients.var(dim=0).sum())
    return (float(gradients.mean(dim=0).pow(2).sum()) - variance / len(gradients)) / variance
