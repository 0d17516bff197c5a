"""A chat model with adapters learns wherever its games are played and however many processes learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import archer
from archer.cluster.joining import Cluster
from archer.config import RunConfig
from archer.exporting import export
from archer.runfolder import RunFolder
from archer.settings import overlay
from tests.families import save_family
from tests.machines import machines
from tests.pair import run_pair
from tests.test_learning import TASK

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("everywhere")]
CHAT: dict[str, Any] = {
    "env": {"name": "tests.worlds:TwoSteps"},
    "rollout": {"layout": "chat", "max_tokens": 160, "utterance_tokens": 8, "games": 16},
    "iterations": 8,
    "warmup": 1,
}
CLONED: dict[str, Any] = {
    "iterations": 0,
    "actor_start": {"epochs": 0},
    "critic_start": {"epochs": 0},
    "rollout": {"best_of": 0},
    "critic": {"method": "none"},
    "actor": {"method": "none"},
}
ADAPTED: dict[str, Any] = {
    "supervised": {"epochs": 0},
    "critic_start": {"lr": 5e-3},
    "actor_start": {"lr": 5e-3},
    "critic": {"lr": 3e-3},
    "actor": {"lr": 3e-3},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen-shaped chat model that was fine-tuned on chats, as somebody would bring it."""
    path = tmp_path_factory.mktemp("model")
    wide = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
    base = {"model": {"actor": str(save_family("qwen2", path / "base", **wide))}}
    archer.train(
        overlay(overlay(overlay(overlay(RunConfig(), TASK, "test"), CHAT, "test"), base, "test"), CLONED, "test"),
        path / "cloned",
    )
    export(path / "cloned", path / "model", merge=False)
    return path / "model"


def _config(base: Path, **changes: Any) -> RunConfig:
    adapters = {"model": {"actor": str(base), "lora": {"rank": 8}}}
    config = overlay(overlay(RunConfig(), TASK, "test"), CHAT, "test")
    return overlay(overlay(overlay(config, ADAPTED, "test"), adapters, "test"), changes, "test")


def _alone(model: Path, run: Path) -> None:
    archer.train(_config(model), run)


def _on_a_cluster(model: Path, run: Path) -> None:
    with machines(3) as ours:
        archer.train(_config(model, cluster={"chunk": 8}), run, cluster=Cluster(ours.address, 2))


def _whole(model: Path, run: Path) -> None:
    archer.train(_config(model), run)


def _sharded(model: Path, run: Path) -> None:
    archer.train(_config(model, model={"sharding": "full"}), run)


def _in_pairs(work: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def train(model: Path, run: Path) -> None:
        for code, text in run_pair(work, model, run, out=run.parent / "out", seconds=600):
            assert code == 0, text

    return train


@pytest.mark.parametrize(
    "train",
    [_alone, _on_a_cluster, _in_pairs(_whole), _in_pairs(_sharded)],
    ids=["alone", "cluster", "two processes", "two in shards"],
)
def test_a_chat_model_with_adapters_learns(train: Callable[[Path, Path], None], model: Path, tmp_path: Path) -> None:
    train(model, tmp_path / "run")
    summary = RunFolder.open(tmp_path / "run").summary()
    print({key: summary[key] for key in ("start_return", "return_mean", "return_ci95")})
    assert summary["start_return"] < 0.45 and summary["return_mean"] > 0.6
