"""Several processes learn as one: the same gradients, games and runs as one alone, and one end for all."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import archer
from archer import devices
from archer.cli import main
from archer.config import RunConfig
from archer.config.layers import overlay, to_yaml
from archer.resuming import restore, save
from archer.rollout.play import Limits, play
from archer.rollout.seat import EnvironmentFailure, Faults
from archer.rollout.sharing import play_shared
from archer.run import Run
from archer.storage.checkpoint import latest_checkpoint
from archer.storage.runfolder import RunFolder
from archer.types import Episode
from tests.conftest import Command
from tests.families import save_family
from tests.learners import ACTORS, CRITICS, SAMPLING, learn, learn_all, made, tiny
from tests.pair import run_pair
from tests.runs import SMALL
from tests.worlds import Echo, Misbehaving

pytestmark = pytest.mark.xdist_group("devices")  # what several of them look at is made once
SCENES = [
    *(f"{case}.full.whole" for case in ("clone", "baseline", "kept")),
    *(f"{case}.full.sharded" for case in ("starts", "muon", "awr", "tokens")),
    *("awr.lora.sharded", "td.lora.whole", "td.untied.sharded"),
]
MORE = [
    f"{case}.{kind}.{placing}"
    for case in ("clone", "starts", "recomputed", "averaged", *ACTORS, *CRITICS)
    for kind in ("full", "lora")
    for placing in ("whole", "sharded")
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("qwen2", tmp_path_factory.mktemp("base"))


def _check(scene: str, found: dict[str, torch.Tensor], base: Path) -> None:
    """The same as one process finds, but for the order of sums."""
    case, kind, _ = scene.split(".")
    alone = learn(case, made(kind, base), sharded=False)
    assert set(found) == set(alone)
    for name, wanted in alone.items():
        near = 2e-5 * float(wanted.abs().max()) + 1e-9
        assert torch.allclose(found[name], wanted, rtol=0, atol=near), (name, found[name], wanted)
    if case not in ("clone", "starts"):  # which leave none behind
        assert sum(float(value.abs().sum()) for name, value in alone.items() if name.endswith(".grad")) > 0


@pytest.fixture(scope="module")
def together(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    out = tmp_path_factory.mktemp("found")
    ends = run_pair(learn_all, base, out, SCENES, out=out)
    assert [code for code, _ in ends] == [0, 0], ends
    return out


@pytest.mark.parametrize("scene", SCENES)
def test_two_processes_step_as_one(scene: str, together: Path, base: Path) -> None:
    _check(scene, load_file(together / f"{scene}.safetensors"), base)


@pytest.mark.slow
def test_two_processes_step_as_one_whatever_learns(base: Path, tmp_path: Path) -> None:
    assert [code for code, _ in run_pair(learn_all, base, tmp_path, MORE, out=tmp_path, seconds=600)] == [0, 0]
    for scene in MORE:
        _check(scene, load_file(tmp_path / f"{scene}.safetensors"), base)


def _know(episodes: list[Episode]) -> list[tuple[Any, ...]]:
    """All that is to be known of games."""
    return [
        (
            episode.seed,
            episode.end,
            episode.final_prompt_ids.tolist(),
            [(turn.utterance.ids.tolist(), turn.utterance.logprobs.tolist(), turn.reward) for turn in episode.turns],
        )
        for episode in episodes
    ]


SEEDS = [4, 4, 4, 1, 1, 1, 9, 9, 9, 2, 2, 2]
RULES: dict[str, Any] = {"task": "echo", "sampling": SAMPLING}
LIMITS = Limits(max_tokens=160, parallel=4, retries=0, max_failures=0.7)


def _raising() -> Misbehaving:
    return Misbehaving("raise")


def _work_together() -> None:
    """What two processes do together, checked where it happens."""
    actor = tiny()
    alone = _know(play(actor, Echo, SEEDS, limits=LIMITS, **RULES))
    failing = Faults(len(SEEDS), 0.7)
    kept = _know(play(actor, _raising, SEEDS, limits=LIMITS, faults=failing, **RULES))
    with devices.joined("cpu"):
        own = devices.number()
        assert devices.gather(own) == [0, 1]
        assert devices.told_by_first(lambda: own) == 0
        calls: list[int] = []

        def square(part: int) -> int:
            calls.append(part)
            return part * part

        for number, parts in enumerate(([], [5], [5, 6], [5, 6, 7])):
            calls.clear()
            assert devices.divide(parts, square) == [part * part for part in parts]
            assert len(calls) == (number + 1) // 2  # alike in both
        assert devices.summed([1.0, own]) == [2.0, 1.0]
        assert devices.merged({"both": 1.0, f"only {own}": 3.0}) == {"both": 2.0, "only 0": 3.0, "only 1": 3.0}
        gradients = [torch.full((2, 3), 1.0 + own), torch.full((4,), 10.0 * own), torch.ones(5, 2).T]
        devices.AT_ONCE = 8
        devices.add_up(gradients)
        assert [sorted(set(gradient.flatten().tolist())) for gradient in gradients] == [[3.0], [10.0], [2.0]]
        assert _know(play_shared(play, (), actor, Echo, SEEDS, limits=LIMITS, **RULES)) == alone
        faults = Faults(len(SEEDS), 0.7)
        assert _know(play_shared(play, (), actor, _raising, SEEDS, limits=LIMITS, faults=faults, **RULES)) == kept
        assert faults.metrics == failing.metrics
        with pytest.raises(EnvironmentFailure, match="6 of 12 games"):  # 3 of them in each process, which it allows
            play_shared(play, (), actor, _raising, SEEDS, limits=LIMITS, faults=Faults(len(SEEDS), 0.3), **RULES)
        with torch.no_grad():
            next(iter(actor.parameters())).add_(own)
        with pytest.raises(RuntimeError, match="do not begin with the same actor"):
            devices.check_alike(actor)
    with devices.joined("cpu"):  # once more in the same processes
        assert devices.gather(own) == [0, 1]


def test_work_is_divided_and_put_together(tmp_path: Path) -> None:
    for code, text in run_pair(_work_together, out=tmp_path):
        assert code == 0, text


EXACT: dict[str, Any] = {
    "supervised": {"matrix_lr": 0.0, "epochs": 5},
    **{part: {"matrix_lr": 0.0} for part in ("critic_start", "actor_start")},
    "critic": {"matrix_lr": 0.0, "accumulation": 2},
    "actor": {"matrix_lr": 0.0, "accumulation": 2, "average": 1.0},
    "iterations": 2,
}
"""Batches are cut alike in one process and in two."""


def _config(**changes: Any) -> RunConfig:
    return overlay(overlay(overlay(RunConfig(), SMALL, "test"), EXACT, "test"), changes, "test")


def _stop(config: RunConfig, run: Path, where: str, left: int) -> None:
    """Train up to a checkpoint of the iterations, or of what is learned before them."""

    def stop(state: Run) -> None:
        nonlocal left
        save(state)
        left -= 1
        if not left:
            raise InterruptedError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(f"{where}.save", stop)
        archer.train(config, run)


def _train_together(path: Path) -> None:
    archer.train(run=path / "from one", resume=True)
    archer.train(_config(model={"sharding": "full"}), path / "sharded")
    _stop(_config(model={"sharding": "full"}), path / "from shards", "archer.training", 1)
    archer.train(_config(rollout={"overlap": True, "best_of": 0}, model={"sharding": "full"}), path / "ahead")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process and of two, and what one began and the other finished."""
    path = tmp_path_factory.mktemp("runs")
    archer.train(_config(), path / "one")
    _stop(_config(), path / "from one", "archer.starting", 2)
    for code, text in run_pair(_train_together, path, out=path / "out"):
        assert code == 0, text
    archer.train(run=path / "from shards", resume=True)
    return path


def _rows(run: Path) -> list[dict[str, float]]:
    rows = RunFolder(run).metrics()
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    files = sorted(checkpoint.rglob("*.safetensors"))
    return {
        f"{file.relative_to(checkpoint)}:{name}": value for file in files for name, value in load_file(file).items()
    }


@pytest.mark.parametrize(("first", "second"), [("one", "from one"), ("sharded", "from shards")])
def test_another_number_of_processes_goes_on(first: str, second: str, runs: Path) -> None:
    ours, theirs = _rows(runs / first), _rows(runs / second)
    assert [list(row) for row in ours] == [list(row) for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-5)
    weights = _weights(runs / first)
    for name, value in _weights(runs / second).items():
        assert torch.allclose(value, weights[name], atol=1e-3), name


def test_a_checkpoint_of_shards_is_like_any_other(runs: Path) -> None:
    one, sharded = _weights(runs / "one"), _weights(runs / "sharded")
    assert {name: value.shape for name, value in one.items()} == {n: value.shape for n, value in sharded.items()}
    assert archer.evaluate(archer.load(runs / "sharded"), episodes=4)["episodes"] == 4


def test_a_run_of_two_begins_as_that_of_one(runs: Path) -> None:
    start, two = _rows(runs / "one"), _rows(runs / "sharded")
    for one, other in zip(start[:2], two[:2], strict=True):  # what the starts taught: the same games, to the last word
        assert one == {name: pytest.approx(value, rel=1e-6) for name, value in other.items()}
    for name in ("rollout/return_mean", "critic/q_loss", "critic/q_mean", "critic/answer_loss"):
        assert start[2][name] == pytest.approx(two[2][name], rel=1e-3)


def test_one_process_writes_and_speaks(runs: Path) -> None:
    assert [len(list((runs / run / "tensorboard").iterdir())) for run in ("sharded", "ahead")] == [1, 1]
    assert [row["iteration"] for row in RunFolder(runs / "ahead").metrics()] == [0, 0, 1, 2]


def _train_and_fail(moment: str, config: Path, run: Path) -> None:
    """The second process fails, or is killed, when the actor is to learn."""

    def fail(*arguments: Any, **keywords: Any) -> None:
        if devices.number() == 1 and moment == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if devices.number() == 1:
            raise ValueError("what is wrong")
        devices.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archer.training.update_actor", fail)
        main(["train", "--json", "--config", str(config), "--run", str(run)])


@pytest.mark.parametrize("moment", ["failed", "killed"])
def test_all_end_when_one_does(moment: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(_config(warmup=0)))
    ends = run_pair(
        _train_and_fail, moment, tmp_path / "config.yaml", tmp_path / "run", out=tmp_path / "out", seconds=60
    )
    (first, said), (second, cause) = ends
    if moment == "killed":
        assert (first, second) == (1, -signal.SIGKILL)
        assert "another process of this run is gone" in said and "--resume" in said
    else:
        assert (first, second) == (1, 2)
        assert "archer: what is wrong" in cause and "archer:" not in said
    restore(RunFolder.open(tmp_path / "run"))


def test_what_needs_several_processes_or_cannot_have_them_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="one shard per process, and there is one"):
        archer.train(_config(model={"sharding": "full"}), tmp_path / "run")
    with pytest.raises(ValueError, match=r"model\.compile is for networks that lie whole"):
        _config(model={"sharding": "full", "compile": True})
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    done = command("envs")
    assert done.code == 2 and "without torchrun" in done.err
