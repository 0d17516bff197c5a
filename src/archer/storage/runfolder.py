"""A run is a folder: where its parts lie, who may write to it, and what a resume takes back."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from archer.config import RunConfig
from archer.config.layers import load_yaml, to_yaml
from archer.storage.files import write_text
from archer.storage.metricsfile import read_metrics, truncate_metrics
from archer.storage.shards import read_shard
from archer.types import Episode


class RunFolderError(RuntimeError):
    """A run folder cannot be used; the message says why and what to do."""


class RunFolder:
    """``config.yaml``, ``metrics.jsonl``, ``episodes/``, ``evaluations/``, ``checkpoints/`` and what comes of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.demonstrations_file = path / "demonstrations.parquet"
        self.episodes = path / "episodes"
        self.evaluations = path / "evaluations"
        self.starts = path / "starts"
        """Checkpoints on the way to the first of ``checkpoints``."""
        self.checkpoints = path / "checkpoints"
        self.summary_file = path / "summary.json"
        self.curve_file = path / "curve.png"

    @classmethod
    def check_free(cls, path: Path) -> None:
        """Refuse a folder that holds anything."""
        if cls(path).config_file.exists():
            raise RunFolderError(
                f"{path} already holds a run: continue it with `archer train --resume {path}` or choose another folder"
            )
        # Folders without files are what a kill before the first one leaves behind.
        if any(entry.is_file() and entry.name != "lock" for entry in path.rglob("*")):
            raise RunFolderError(f"{path} is not empty and not a run: choose another folder")

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """A new run; refuses a folder that holds anything, and one that cannot be written to."""
        folder = cls(path)
        cls.check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder.episodes.mkdir(exist_ok=True)
            folder.checkpoints.mkdir(exist_ok=True)
            write_text(folder.config_file, to_yaml(config))
        except OSError as error:
            raise RunFolderError(f"cannot write to the run folder {path}: {error.strerror or error}") from error
        return folder

    @classmethod
    def emptied(cls, path: Path) -> RunFolder:
        """An existing run as if it had only been made."""
        folder = cls.open(path)
        folder.forget_after(0, measured=0)
        folder.forget_outcome()
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run."""
        folder = cls(path)
        if not folder.config_file.is_file():
            raise RunFolderError(f"{path} is not a run: it has no config.yaml")
        return folder

    def config(self) -> RunConfig:
        """The run's configuration."""
        return load_yaml(RunConfig(), self.config_file)

    def metrics(self) -> list[dict[str, Any]]:
        """Every logged line."""
        return read_metrics(self.metrics_file)

    def demonstrations(self) -> list[Episode]:
        """The demonstrations that the run began with, none where it had none."""
        return read_shard(self.demonstrations_file) if self.demonstrations_file.exists() else []

    def summary(self) -> dict[str, Any]:
        """What the finished run reported."""
        try:
            content: dict[str, Any] = json.loads(self.summary_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunFolderError(
                f"{self.summary_file} is damaged ({error}); delete it and write it anew: archer train --resume "
                f"{self.path}"
            ) from None
        return content

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from writing here while the block runs."""
        holder = self.path / "lock"
        lock = FileLock(str(holder), timeout=0)
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            holder.write_text(f"{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except Timeout:
            owner = holder.read_text(encoding="utf-8").strip() or "unknown"
            raise RunFolderError(
                f"{self.path} is in use by another process ({owner}); wait for it or stop it"
            ) from None
        except OSError as error:
            lock.release()
            raise RunFolderError(f"cannot write to the run folder {self.path}: {error.strerror or error}") from error
        try:  # apart from the above: what the block raises is its own, not the folder's
            yield
        finally:
            with suppress(OSError):  # a folder that was taken away meanwhile
                if [entry.name for entry in self.path.iterdir()] == [holder.name]:  # nothing came of it
                    holder.unlink()
                    if new:
                        self.path.rmdir()
            lock.release()

    def forget_after(self, iteration: int, measured: int = sys.maxsize) -> None:
        """Take back what was written after the checkpoint of ``iteration``, as if it had not happened; of what was
        measured before the first game, all but the first so many lines."""
        truncate_metrics(self.metrics_file, iteration, measured)
        for shard in (*self.episodes.glob("*.parquet"), *self.evaluations.glob("*.parquet")):
            if shard.stem.isdigit() and int(shard.stem) > iteration:
                shard.unlink()

    def forget_starts(self) -> None:
        """Take away what stood in for the first checkpoint."""
        shutil.rmtree(self.starts, ignore_errors=True)

    def forget_outcome(self) -> None:
        """Take back what was written at the end: the run has a part of its way before it again."""
        for outcome in (self.summary_file, self.path / "final.parquet", self.curve_file):
            outcome.unlink(missing_ok=True)
