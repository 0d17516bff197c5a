"""Kept target values: found once, forgotten in time, and the same after a stop."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import archer
from archer.algorithms.critic import update_critic
from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.target_values import KeptValues
from archer.config import CriticConfig
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import CausalCritic
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode
from tests.conftest import SAMPLING
from tests.runs import fingerprint, small_run, stop_and_resume


@pytest.fixture
def replay(episodes: list[Episode]) -> Replay:
    found = Replay(1000)
    found.add(episodes)
    return found


def _update(agent: Agent, replay: Replay, kept: KeptValues | None, method: str = "td", updates: int = 1) -> Any:
    config = CriticConfig(method=method, updates=updates, batch_turns=1000)  # type: ignore[arg-type]
    agent.critic_optimizer = make_optimizer(agent.learned_critic, config)
    sampler = SiblingSampler(agent.actor, SAMPLING)
    return update_critic(agent, replay, config, sampler=sampler, seed=[0], kept=kept)


@pytest.mark.parametrize("method", HIGH_LEVELS)
def test_a_first_step_does_not_tell_kept_values_from_fresh_ones(method: str, agent: Agent, replay: Replay) -> None:
    other = deepcopy(agent)
    fresh, kept = _update(agent, replay, None, method), _update(other, replay, KeptValues(1), method)
    assert kept == pytest.approx(fresh, rel=1e-4)
    wanted, found = (
        torch.cat([p.grad.flatten() for p in one.learned_critic.parameters() if p.grad is not None])
        for one in (agent, other)
    )
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(("iterations", "asked"), [(1, [1, 2, 3, 4]), (2, [1, 1, 2, 2]), (4, [1, 1, 1, 1])])
def test_each_game_is_asked_about_once_in_so_many_iterations(
    iterations: int, asked: list[int], agent: Agent, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps an iteration, each on all games; passes of the target critic by then."""
    passes, counts = 0, []
    usual = CausalCritic.forward

    def forward(critic: CausalCritic, *arguments: Any, **options: Any) -> Any:
        nonlocal passes
        passes += critic is agent.target_critic
        return usual(critic, *arguments, **options)

    monkeypatch.setattr(CausalCritic, "forward", forward)
    kept = KeptValues(iterations)
    for _ in range(4):
        _update(agent, replay, kept, updates=3)
        counts.append(passes)
    assert counts == asked


def test_what_is_kept_is_found_again_by_its_place(agent: Agent, replay: Replay, episodes: list[Episode]) -> None:
    kept, shown = KeptValues(3), Replay(1000)
    shown.add(deepcopy(episodes[:2]))
    high, sampler = HIGH_LEVELS["td"], SiblingSampler(agent.actor, SAMPLING)
    kept.prepare(agent, high, sampler, [[episodes[4], shown[1]], [episodes[0]]], [0])
    kept.prepare(agent, high, sampler, [[episodes[2]]], [1])
    state = kept.state(replay, shown)
    assert sorted(state["index"].tolist()) == [[0, 0, 1], [0, 2, 2], [0, 4, 1], [1, 1, 1]]
    again = KeptValues(3)
    again.restore(state, replay, shown)
    assert all(torch.equal(a, b) for a, b in zip(again.state(replay, shown).values(), state.values(), strict=True))
    forgotten = Replay(1)
    assert kept.state(forgotten, None)["index"].shape == (0, 3)


def test_a_stopped_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """Stopped after three iterations; the fourth knows games of the third."""
    config = small_run(critic={**small_run().critic.__dict__, "keep_values": 2})
    archer.train(config, tmp_path / "whole")
    stop_and_resume(config, tmp_path / "run", saves=3)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
