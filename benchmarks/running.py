"""Training the runs of a benchmark, some at once: what is done is not done again, what was cut off goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Benchmark:
    """Something × seeds on one task."""

    env: str = "twenty-questions-10"
    """Task."""
    seeds: int = 5
    """How many seeds, from 0 on."""
    jobs: int = 2
    """Runs at once, one thread each."""
    runs: Path = Path("runs/benchmark")
    """Folder of all runs."""

    @property
    def folder(self) -> Path:
        """Of this task's runs."""
        return self.runs / self.env


def train_all(jobs: int, runs: Mapping[Path, list[str]], finished: Callable[[Path], None] = lambda run: None) -> None:
    """Train the runs that are not finished, ``jobs`` at once, and tell ``finished`` of each; ends the program if one
    fails."""

    def train(run: Path, arguments: Sequence[str]) -> bool:
        done = _train(run, arguments)
        if done:
            finished(run)
        return done

    with ThreadPoolExecutor(jobs) as pool:
        failed = [str(run) for run, done in zip(runs, pool.map(train, runs, runs.values()), strict=True) if not done]
    if failed:
        sys.exit(f"these runs failed, see the log beside each: {', '.join(failed)}")


def train_starts(benchmark: Benchmark, seeds: Iterable[int]) -> Mapping[int, Path]:
    """Train the supervised start of each seed, which all methods go on from; their folders."""
    starts = {seed: benchmark.folder / "starts" / f"seed-{seed}" for seed in seeds}
    train_all(benchmark.jobs, {start: ["--preset", "bc", *task(benchmark.env, seed)] for seed, start in starts.items()})
    return starts


def train_begun(benchmark: Benchmark, starts: Mapping[int, Path]) -> Mapping[int, Path]:
    """Train what `archer` learns from each start before its first game, as runs to go on from; their folders."""
    begun = {seed: benchmark.folder / "begun" / f"seed-{seed}" for seed in starts}
    train_all(
        benchmark.jobs,
        {run: from_start("archer", benchmark.env, seed, starts[seed], "iterations=0") for seed, run in begun.items()},
    )
    return begun


def from_start(preset: str, env: str, seed: int, start: Path, *settings: str) -> list[str]:
    """A run that goes on from another one."""
    return ["--preset", preset, *task(env, seed), "--start-from", str(start), "--set", "threads=1", *settings]


def task(env: str, seed: int) -> list[str]:
    """The task of a run and its seed."""
    return ["--env", env, "--seed", str(seed)]


def archer(arguments: Sequence[str]) -> list[str]:
    """The command line, in this Python."""
    return [sys.executable, "-c", "from archer.cli import main; main()", *arguments]


def _train(run: Path, arguments: Sequence[str]) -> bool:
    """Train one run to its end, from its last checkpoint if there is one; whether that worked."""
    if (run / "summary.json").exists():
        return True
    if any((run / "checkpoints").glob("[0-9]*")):
        command = ["train", "--resume", str(run)]
    else:
        shutil.rmtree(run, ignore_errors=True)
        command = ["train", "--run", str(run), *arguments]
    run.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (run.parent / f"{run.name}.log").open("a", encoding="utf-8") as log:
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(archer(command), env=one_thread, stdout=log, stderr=subprocess.STDOUT)
    print(
        f"{run}: {'done' if done.returncode == 0 else 'failed'}, {(time.perf_counter() - began) / 60:.1f} min",
        flush=True,
    )
    return done.returncode == 0
