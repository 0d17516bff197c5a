"""What lies on disk: shards, checkpoints, locks and metrics, and what happens when the disk or the process fails."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

from archer.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    load_module,
    load_optimizers,
    save_checkpoint,
    save_module,
    save_optimizers,
)
from archer.config import RunConfig
from archer.files import write_text
from archer.metrics import MetricLog, mean_ci95, read_metrics, truncate_metrics
from archer.optimize import Optimizer
from archer.runfolder import RunFolder, RunFolderError
from archer.storage import StorageError, read_shard, write_shard
from archer.types import Episode


def test_shards_come_back_as_they_were(tmp_path: Path, episodes: list[Episode]) -> None:
    path = tmp_path / "000001.parquet"
    write_shard(path, episodes, 1)
    for before, after in zip(episodes, read_shard(path), strict=True):
        assert (before.end, before.seed, before.task, before.policy_version) == (
            after.end, after.seed, after.task, after.policy_version,
        )  # fmt: skip
        np.testing.assert_array_equal(before.final_prompt_ids, after.final_prompt_ids)
        for a, b in zip(before.turns, after.turns, strict=True):
            np.testing.assert_array_equal(a.prompt_ids, b.prompt_ids)
            np.testing.assert_array_equal(a.utterance.ids, b.utterance.ids)
            np.testing.assert_array_equal(a.utterance.logprobs, b.utterance.logprobs)
            assert (a.observation, a.reward, dict(a.info), a.utterance.text) == (
                b.observation, b.reward, dict(b.info), b.utterance.text,
            )  # fmt: skip
            assert np.shares_memory(b.prompt_ids, after.final_prompt_ids)
    assert list(tmp_path.iterdir()) == [path]


def test_shards_are_tables_for_anyone(tmp_path: Path, episodes: list[Episode]) -> None:
    write_shard(tmp_path / "1.parquet", episodes, 1)
    table = duckdb.sql(f"select count(*), sum(length) from '{tmp_path}/*.parquet' where iteration = 1")
    assert table is not None
    rows = table.fetchall()
    assert rows == [(len(episodes), sum(len(e) for e in episodes))]


def test_a_foreign_or_damaged_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(StorageError, match=r"x\.parquet: not a readable episode shard"):
        read_shard(path)
    duckdb.sql(f"copy (select 1 as a) to '{path}' (format parquet)")
    with pytest.raises(StorageError, match=r"not of episodes.*'a'"):
        read_shard(path)


def _fill(folder: Path) -> None:
    (folder / "weights").write_bytes(b"1234")


def test_checkpoints_keep_the_newest_and_the_start(tmp_path: Path) -> None:
    for step in range(5):
        save_checkpoint(tmp_path, step, _fill, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000", "000003", "000004"]
    assert latest_checkpoint(tmp_path) == tmp_path / "000004"


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, _fill, keep=3)
    (tmp_path / "000002" / "weights").write_bytes(b"12x4")
    with pytest.warns(UserWarning, match="weights does not match its checksum"):
        assert latest_checkpoint(tmp_path) == tmp_path / "000001"


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, _fill, keep=3)

    def full(folder: Path) -> None:
        _fill(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left.*000001, is intact.*resume"):
        save_checkpoint(tmp_path, 2, full, keep=3)
    assert [p.name for p in tmp_path.iterdir()] == ["000001"]


def test_leftovers_of_a_killed_save_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "half").write_bytes(b"")
    assert latest_checkpoint(tmp_path) is None
    saved = save_checkpoint(tmp_path, 1, _fill, keep=1)
    assert not (saved / "half").exists()


@pytest.mark.parametrize("matrix_lr", [0.0, 0.1])
def test_an_optimizer_continues_exactly(tmp_path: Path, matrix_lr: float) -> None:
    def steps(layer: torch.nn.Linear, optimizer: Optimizer, count: int) -> None:
        for i in range(count):
            optimizer.step([(layer(torch.tensor([[float(i), 1.0]])).pow(2).sum(), 1.0)])

    def fresh() -> tuple[torch.nn.Linear, Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(2, 2)
        return layer, Optimizer(layer, lr=0.1, clip=1.0, matrix_lr=matrix_lr)

    layer, optimizer = fresh()
    steps(layer, optimizer, 3)
    save_module(tmp_path / "m.safetensors", layer)
    save_optimizers(tmp_path / "o.safetensors", optimizer.parts)
    steps(layer, optimizer, 3)
    again, other = fresh()
    load_module(tmp_path / "m.safetensors", again)
    load_optimizers(tmp_path / "o.safetensors", other.parts)
    steps(again, other, 3)
    assert torch.equal(layer.weight, again.weight) and torch.equal(layer.bias, again.bias)


def test_a_run_folder_is_made_once(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", RunConfig(seed=5))
    assert RunFolder.open(tmp_path / "run").config() == RunConfig(seed=5)
    with pytest.raises(RunFolderError, match=r"already holds a run.*--resume"):
        RunFolder.create(tmp_path / "run", RunConfig())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(RunFolderError, match="not empty"):
        RunFolder.create(tmp_path / "other", RunConfig())
    with pytest.raises(RunFolderError, match="not a run"):
        RunFolder.open(tmp_path / "other")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunFolderError, match="cannot write to the run folder"),
        RunFolder(tmp_path / "file" / "run").lock(),
    ):
        pass
    with pytest.raises(RunFolderError, match="cannot write to the run folder"):
        RunFolder.create(Path("/proc/archer-run"), RunConfig())


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from archer.runfolder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r})).lock():\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RunFolderError, match=rf"in use by another process \({holder.pid} on "),
            RunFolder(tmp_path).lock(),
        ):
            pass
        holder.stdin.close()
    with RunFolder(tmp_path).lock():
        pass


def test_metrics_survive_a_kill_and_are_taken_back(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    for iteration in range(3):
        log.log(iteration, {"a": float(iteration), "b": float("nan")})
    log.close()
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"iteration": 3, "a"')
    assert [row["iteration"] for row in read_metrics(path)] == [0, 1, 2]
    assert read_metrics(path)[0]["b"] is None
    truncate_metrics(path, 1)
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [0, 1]
    path.write_text('{"iteration": 0}\nnonsense\n{"iteration": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)


def test_intervals_by_hand() -> None:
    # mean 2, sample variance 1, 1.96 · 1/√3
    assert mean_ci95([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1.1316), abs=1e-4)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_text(path, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
