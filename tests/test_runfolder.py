"""Who may write to a run, and what a resume takes back."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from archer.config import RunConfig
from archer.metrics import MetricLog
from archer.storage.runfolder import RunFolder, RunFolderError


def test_errors_of_the_work_are_not_blamed_on_the_folder(tmp_path: Path) -> None:
    """An environment without its data file must not read as a run folder without permissions."""
    with pytest.raises(PermissionError, match="game server"), RunFolder(tmp_path).lock():
        raise PermissionError(errno.EACCES, "game server")
    with RunFolder(tmp_path).lock():
        pass


def test_a_refusal_leaves_nothing_behind_but_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with pytest.raises(ValueError, match="refused"), RunFolder(tmp_path / name).lock():
            raise ValueError("refused")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine"]


def test_a_full_disk_is_told_before_the_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with (
        pytest.raises(RunFolderError, match=r"cannot write to the run folder .*No space left"),
        RunFolder(tmp_path).lock(),
    ):
        pytest.fail("the work began")
    monkeypatch.undo()
    with RunFolder(tmp_path).lock():
        pass


def test_a_resume_takes_back_exactly_what_came_later(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    log = MetricLog(folder.path)
    kept = b""
    for iteration in range(4):
        log.log(iteration, {"critic/q_loss": 1 / 3 + iteration, "actor/loss": float("nan")})
        for shards in (folder.episodes, folder.evaluations):
            shards.mkdir(exist_ok=True)
            (shards / f"{iteration:06d}.parquet").touch()
        if iteration == 1:
            kept = folder.metrics_file.read_bytes()
    log.close()
    (folder.episodes / "mine.parquet").touch()
    folder.forget_after(1)
    assert folder.metrics_file.read_bytes() == kept
    assert sorted(path.name for path in folder.evaluations.iterdir()) == ["000000.parquet", "000001.parquet"]
    assert sorted(path.name for path in folder.episodes.iterdir()) == [
        "000000.parquet",
        "000001.parquet",
        "mine.parquet",
    ]


def test_what_a_kill_leaves_before_the_settings_are_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run" / "episodes").mkdir(parents=True)
    (tmp_path / "run" / "lock").touch()
    assert RunFolder.create(tmp_path / "run", RunConfig()).config() == RunConfig()


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
        "import sys; from pathlib import Path; from archer.storage.runfolder import RunFolder\n"
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
