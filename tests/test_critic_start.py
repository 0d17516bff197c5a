"""The critic's start on demonstrations, and their share of its batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch

from archer.algorithms.critic import follow_actor, start_critic, update_critic
from archer.algorithms.likelihood import as_said_by
from archer.algorithms.supervised import clone
from archer.config import CriticConfig, CriticStartConfig, SupervisedConfig
from archer.envs.base import play_scripted
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.models.batch import collate
from archer.models.critic import Values
from archer.replay import Replay
from archer.rollout.demonstrations import batches, to_episode
from archer.rollout.prompts import PlainText
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode
from tests.conftest import SAMPLING
from tests.worlds import TwoSteps


@pytest.fixture(scope="module")
def demonstrations(actor: Actor) -> list[Episode]:
    """A hundred games of two steps, a quarter of which are won by their first word."""
    env, prompts = TwoSteps(), PlainText(actor.tokenizer)
    games = [play_scripted(env, env.demonstrator(seed), seed) for seed in range(100)]
    return [to_episode(game, prompts, seed=seed, task="two steps") for seed, game in enumerate(games)]


def _begun(agent: Agent, demonstrations: list[Episode], **start: float) -> tuple[Values, npt.NDArray[np.bool_]]:
    """What the critic makes of both turns of the demonstrations, and which of them were won."""
    config = CriticConfig(discount=0.5, answer_weight=0.0)
    heard: list[dict[str, float]] = []
    passes = CriticStartConfig(epochs=12, batch_games=10, **start)  # type: ignore[arg-type]
    start_critic(agent, demonstrations, passes, config, seed=[0], report=heard.append)
    assert len(heard) == 12 * 10
    with torch.no_grad():
        values = agent.learned_critic(collate(demonstrations))
    return values, np.array([game.turns[0].utterance.text == "red" for game in demonstrations])


@pytest.mark.parametrize("trace", [0.2, 1.0])
def test_the_critic_begins_with_what_the_demonstrations_were_worth(
    agent: Agent, demonstrations: list[Episode], trace: float
) -> None:
    values, won = _begun(agent, demonstrations, trace=trace, expectile=0.5)
    first = np.arange(0, 200, 2)
    # The reward of 1 comes one turn later, so the first word is worth γ = 0.5, or nothing.
    q = values.q[first].mean(dim=1).numpy()
    assert q[won].mean() == pytest.approx(0.5, abs=0.1) and q[~won].mean() == pytest.approx(0.0, abs=0.1)
    # Before it nothing is known but how often it is the right one.
    assert values.v[first].mean().item() == pytest.approx(0.5 * won.mean(), abs=0.1)


def test_with_an_expectile_the_critic_begins_with_what_can_be_made_of_a_state(
    agent: Agent, demonstrations: list[Episode]
) -> None:
    values, won = _begun(agent, demonstrations, trace=0.2, expectile=0.9)
    # V of the first state pulls .9 p (.5 - V) upwards and .1 (1 - p) V downwards: .375 where p = 1/4 are won.
    expected = 0.9 * won.mean() * 0.5 / (0.9 * won.mean() + 0.1 * (1 - won.mean()))
    found = values.v[np.arange(0, 200, 2)].mean().item()
    assert found == pytest.approx(expected, abs=0.1) and found > 0.5 * won.mean() + 0.1


def test_truncated_demonstrations_are_worth_what_the_critic_expects_behind_them(
    agent: Agent, demonstrations: list[Episode]
) -> None:
    """Games that only ever pay -1 and are cut off tend towards -1 / (1 - γ), not towards the sum of what was seen."""
    cut = [
        dataclasses.replace(
            game,
            turns=tuple(dataclasses.replace(turn, reward=-1.0) for turn in game.turns),
            end=type(game.end).TURN_LIMIT,
        )
        for game in demonstrations
    ]
    agent.learned_critic.set_units(-1.0, 1.0)
    assert agent.target_critic is not None
    agent.target_critic.set_units(-1.0, 1.0)
    config = CriticConfig(discount=0.8, answer_weight=0.0)
    start = CriticStartConfig(epochs=20, batch_games=5, matrix_lr=0.0)
    start_critic(agent, cut, start, config, seed=[0], report=lambda _: None)
    with torch.no_grad():
        values, targets = agent.learned_critic(collate(cut)), agent.target_critic(collate(cut))
    assert values.q.mean().item() < -3.0  # two turns alone: -1 and -1.8
    assert targets.q.mean().item() == pytest.approx(values.q.mean().item(), abs=0.5)


def test_every_epoch_shows_every_demonstration_once(demonstrations: list[Episode]) -> None:
    config = CriticStartConfig(epochs=2, batch_games=30)
    drawn = list(batches(demonstrations, config, np.random.default_rng(0)))
    assert [(step, steps) for _, step, steps in drawn] == [(step, 8) for step in range(8)]
    for epoch in (drawn[:4], drawn[4:]):
        assert sorted(game.seed for games, *_ in epoch for game in games) == list(range(100))
    assert [game.seed for game in drawn[0][0]] != [game.seed for game in drawn[4][0]]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 5), (1.0, 20)])
def test_demonstrations_make_up_their_share_of_a_batch(
    agent: Agent, demonstrations: list[Episode], monkeypatch: pytest.MonkeyPatch, share: float, expected: int
) -> None:
    seen: list[list[Episode]] = []

    def look(agent: Agent, optimizer: object, high: object, batch: list[Episode], *_: object) -> dict[str, float]:
        seen.append(batch)
        return {"loss": 0.0}

    monkeypatch.setattr("archer.algorithms.critic._step", look)
    played, shown = Replay(10_000), Replay(10_000)
    played.add(dataclasses.replace(game, policy_version=0) for game in demonstrations)
    shown.add(demonstrations)
    update_critic(
        agent,
        played,
        CriticConfig(updates=3, batch_turns=40, demonstrations=share),
        sampler=SiblingSampler(agent.actor, SAMPLING),
        seed=[0],
        demonstrations=shown,
    )
    assert [sum(game.policy_version == -1 for game in batch) for batch in seen] == [expected] * 3
    assert [len(batch) for batch in seen] == [20] * 3  # games of two turns


def test_the_critic_follows_an_actor_that_has_moved_on(agent: Agent, demonstrations: list[Episode]) -> None:
    """V of the first state becomes the worth of what this actor would say there, not of what was said."""
    config = CriticConfig(updates=20, discount=0.5, answer_weight=0.0, lr=2e-3, matrix_lr=2e-3, trace=0.0)
    start_critic(
        agent, demonstrations, CriticStartConfig(epochs=12, batch_games=10, trace=1.0, expectile=0.5), config,
        seed=[0], report=lambda _: None,
    )  # fmt: skip
    clone(
        agent.actor, [game for game in demonstrations if game.turns[0].utterance.text == "red"],
        SupervisedConfig(epochs=15), seed=[0], report=lambda _: None,
    )  # fmt: skip
    first = np.arange(0, 200, 2)

    def v() -> float:
        with torch.no_grad():
            return agent.learned_critic(collate(demonstrations)).v[first].mean().item()

    assert v() < 0.25  # a quarter of the demonstrations are worth γ = 0.5
    heard: list[dict[str, float]] = []
    shown = as_said_by(agent.actor, demonstrations, lambda _: None)
    follow_actor(agent, shown, 5, config, sampler=SiblingSampler(agent.actor, SAMPLING), seed=[0], report=heard.append)
    assert len(heard) == 5 and v() > 0.4  # this actor always says the right word
