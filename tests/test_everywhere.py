"""A chat model with adapters learns wherever its games are played and however many processes learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import archer
from archer.cluster.joining import Cluster
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.storage.runfolder import RunFolder
from tests.chatting import fine_tune
from tests.machines import machines
from tests.pair import run_pair

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("everywhere")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Of a model that was fine-tuned once for all."""
    return fine_tune(tmp_path_factory.mktemp("model"))[0]


def _train(config: RunConfig, run: Path) -> None:
    archer.train(config, run)


def _on_a_cluster(config: RunConfig, run: Path) -> None:
    with machines(3) as ours:
        archer.train(overlay(config, {"cluster": {"chunk": 8}}, "test"), run, cluster=Cluster(ours.address, 2))


def _in_two_processes(config: RunConfig, run: Path) -> None:
    for code, text in run_pair(_train, config, run, out=run.parent / "out", seconds=600):
        assert code == 0, text


def _in_shards(config: RunConfig, run: Path) -> None:
    _in_two_processes(overlay(config, {"model": {"sharding": "full"}}, "test"), run)


@pytest.mark.parametrize(
    "train",
    [_train, _on_a_cluster, _in_two_processes, _in_shards],
    ids=["alone", "cluster", "two processes", "two in shards"],
)
def test_a_chat_model_with_adapters_learns(
    train: Callable[[RunConfig, Path], None], config: RunConfig, tmp_path: Path
) -> None:
    train(config, tmp_path / "run")
    summary = RunFolder.open(tmp_path / "run").summary()
    assert summary["start_return"] < 0.45 and summary["return_mean"] > 0.6
