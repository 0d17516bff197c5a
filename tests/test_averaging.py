"""The running mean of the actor's weights: what it is, that it plays, and that a run keeps both."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import archer
from archer.algorithms.actor import update_actor
from archer.config import ActorConfig
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.storage.checkpoint import latest_checkpoint
from archer.types import Episode
from tests.conftest import SAMPLING
from tests.runs import small_run


def _weights(actor: Actor) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in actor.parameters()]


def test_each_update_has_its_share_of_the_mean(agent: Agent, episodes: list[Episode]) -> None:
    replay = Replay(1000)
    replay.add(episodes)
    agent.mean = deepcopy(agent.actor).requires_grad_(False)
    before = _weights(agent.actor)
    config = ActorConfig(method="awr", updates=1, batch_turns=8, average=3.0, demonstrations=0.0)  # 1 / (1 + 3)
    update_actor(agent, None, replay, config, sampler=SiblingSampler(agent.policy, SAMPLING), seed=[0])
    once = _weights(agent.actor)
    for old, new, mean in zip(before, once, _weights(agent.mean), strict=True):
        assert torch.allclose(mean, 0.75 * old + 0.25 * new, atol=1e-7)
    update_actor(agent, None, replay, config, sampler=SiblingSampler(agent.policy, SAMPLING), seed=[1])
    for old, first, second, mean in zip(before, once, _weights(agent.actor), _weights(agent.mean), strict=True):
        assert torch.allclose(mean, 0.5625 * old + 0.1875 * first + 0.25 * second, atol=1e-7)
    assert agent.policy is agent.mean
    agent.begin_anew()
    assert all(map(torch.equal, _weights(agent.mean), _weights(agent.actor)))


def test_the_mean_is_what_is_measured_and_loaded(tmp_path: Path) -> None:
    archer.train(small_run(actor={"average": 2.0, "kl": 0.0}, iterations=2), tmp_path / "run")
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    policy, learner = Actor.from_pretrained(checkpoint / "actor"), Actor.from_pretrained(checkpoint / "learner")
    assert not all(map(torch.equal, _weights(policy), _weights(learner)))
    loaded = archer.load(tmp_path / "run").actor
    assert all(map(torch.equal, _weights(loaded), _weights(policy)))


def test_without_it_there_is_one_actor(tmp_path: Path) -> None:
    archer.train(small_run(actor={"average": 0.0}, iterations=1), tmp_path / "run")
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and not (checkpoint / "learner").exists()


def test_a_mean_of_n_iterations_is_as_old_whatever_their_updates() -> None:
    for config in (ActorConfig(average=2.0, updates=5), ActorConfig(average=0.5, updates=20)):
        rate = config.average_rate
        assert rate == pytest.approx(1 / 11)
        # weights of k updates ago have the share rate · (1 - rate)^k, whose mean age is (1 - rate) / rate = 10 updates
        assert sum(k * rate * (1 - rate) ** k for k in range(1000)) == pytest.approx(10)
    assert ActorConfig(average=0.0).average_rate == 1


@pytest.mark.parametrize(
    ("settings", "averages"),
    [
        ({"method": "awr"}, True),
        ({"method": "cloning", "advantage": "none"}, True),
        ({"method": "awr", "utterances": "fresh"}, False),
        ({"method": "ppo"}, False),
        ({"method": "none"}, False),
        ({"average": 0.0}, False),
    ],
)
def test_only_who_clones_what_was_played_plays_with_a_mean(settings: dict[str, Any], averages: bool) -> None:
    assert ActorConfig(**settings).averages is averages
