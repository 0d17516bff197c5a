"""A player on a cluster plays what would have been played beside the learner, whatever it has copies of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from archer.cluster.player import Kit, Player, Weights, saved
from archer.cluster.records import TRAINING, Work
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.gathering import collect
from archer.resuming import restore
from archer.run import Run
from archer.storage.runfolder import RunFolder
from archer.storage.shards import unpack
from archer.training import train
from archer.types import Episode
from tests.families import save_family
from tests.runs import small_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("qwen2", tmp_path_factory.mktemp("base"))


def _begun(folder: Path, **changes: Any) -> Run:
    """A run that was trained for an iteration."""
    train(small_run(iterations=1, warmup=0, eval={"every": 0, "final_games": 2}, **changes), folder)
    return restore(RunFolder.open(folder))


def _on_a_cluster(config: RunConfig, **changes: Any) -> RunConfig:
    return overlay(config, {"cluster": {"chunk": 4, **changes}}, "test")


def _said(episodes: list[Episode]) -> list[tuple[int, list[list[int]], float, int]]:
    return [
        (
            episode.seed,
            [turn.utterance.ids.tolist() for turn in episode.turns],
            float(sum(turn.utterance.logprobs.sum() for turn in episode.turns)),
            episode.policy_version,
        )
        for episode in episodes
    ]


@pytest.mark.parametrize("kind", ["whole", "best of", "adapters", "groups"])
def test_a_player_plays_as_the_learner_would(kind: str, model: Path, tmp_path: Path) -> None:
    """Its first weights are untrained ones: what it plays with was sent to it."""
    lora = {"actor": str(model), "lora": {"rank": 4}}
    changes: dict[str, dict[str, Any]] = {
        "whole": {"rollout": {"best_of": 0}},
        "best of": {"rollout": {"best_of": 3}},
        "adapters": {"rollout": {"best_of": 2, "layout": "chat", "max_tokens": 128}, "model": lora},
        "groups": {"rollout": {"best_of": 0, "group": 2}},
    }
    run = _begun(tmp_path / "run", **changes[kind])
    agent, config = run.agent, run.config
    kit = Kit(_on_a_cluster(config), "tests.worlds:TwoSteps", 0, saved(agent.policy))
    with torch.no_grad():  # later than what was saved
        for parameter in [*agent.policy.parameters(), *agent.learned_critic.parameters()]:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    weights = Weights.of(7, 1, 42, agent.policy, agent.critic if config.rollout.best_of else None)
    if kind == "adapters":
        assert sum(tensor.numel() for tensor in weights.policy.values()) < 5000, "the frozen model was sent too"
    player = Player(kit, "somebody")
    player.take_over(weights)
    assert player.publication == 7
    deliveries = [player.play(Work(TRAINING, chunk)) for chunk in range(4)]
    player.close()
    there = [episode for delivery in deliveries for episode in unpack(delivery.shard)]
    here = collect(run, agent.policy, 1, 42).episodes
    assert _said(there) == _said(here)
    assert {(delivery.publication, delivery.iteration, delivery.player) for delivery in deliveries} == {
        (7, 1, "somebody")
    }


def test_failures_are_counted_where_they_come_together(tmp_path: Path) -> None:
    run = _begun(tmp_path / "run", rollout={"best_of": 0})
    kit = Kit(_on_a_cluster(run.config), "tests.worlds:Misbehaving", 0, saved(run.agent.policy))
    broken = overlay(kit.config, {"env": {"name": "tests.worlds:Misbehaving", "options": {"fault": "raise"}}}, "test")
    player = Player(Kit(broken, kit.target, 0, kit.policy), "somebody")
    player.take_over(Weights.of(1, 1, 0, run.agent.policy, None))
    delivery = player.play(Work(1, 0, (2, 3, 4)))  # even ones go wrong at once, twice, as each is tried again
    first = delivery.tally["first"]
    assert delivery.tally == {"counts": {"exception": 4}, "failed": 2, "dropped": 2, "first": first, "begun": 3}
    assert "the shop is closed" in first
    assert [episode.seed for episode in unpack(delivery.shard)] == [3]
