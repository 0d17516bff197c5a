"""Train methods × seeds on one task from the same supervised starts, and compare what they reach with how many games.

    python benchmarks/sample_efficiency.py --env twenty-questions-10 --seeds 5 --jobs 2
    python benchmarks/sample_efficiency.py --env twenty-questions --seeds 3 --jobs 2

Every seed has one supervised start, which all methods go on from. What is done is not done again: stop it at any time
and start it anew, a run that was cut off goes on from its last checkpoint. At its end the tables and pictures of
docs/results/ are written anew from all runs that are there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

ONLINE = ("archer", "archer-baseline", "archer-mc", "chai", "filtered-bc", "ppo", "turn-ppo", "grpo", "gigpo")
OFFLINE = ("bc", "filtered-bc-offline", "sarsa-awr", "iql-reinforce-bc", "archer-offline")
ITERATIONS = {"twenty-questions-10": 40, "twenty-questions": 40}


@dataclass(frozen=True)
class Benchmark:
    """Methods × seeds on one task."""

    env: str = "twenty-questions-10"
    """Task."""
    methods: tuple[str, ...] = ONLINE
    """Presets."""
    seeds: int = 5
    """Seeds 0 to this, without it."""
    jobs: int = 2
    """Runs at once, one thread each."""
    iterations: int | None = None
    """Iterations of 192 games; left out, what docs/results.md reports."""
    runs: Path = Path("runs/benchmark")
    """Folder of all runs."""
    out: Path = Path("docs/results")
    """Folder of tables and pictures."""


def main() -> None:
    """Train what is missing, then compare."""
    benchmark = tyro.cli(Benchmark, description=__doc__)
    folder = benchmark.runs / benchmark.env
    with ThreadPoolExecutor(benchmark.jobs) as pool:
        starts = [(folder / "starts" / f"seed-{seed}", _start(benchmark, seed)) for seed in range(benchmark.seeds)]
        failed = [name for name in pool.map(_train, *zip(*starts, strict=True)) if name]
        runs = [
            (folder / method / f"seed-{seed}", _method(benchmark, folder, method, seed))
            for seed in range(benchmark.seeds)
            for method in benchmark.methods
        ]
        failed += [name for name in pool.map(_train, *zip(*runs, strict=True)) if name] if not failed else []
    if failed:
        sys.exit("these runs failed, see their log files: " + ", ".join(failed))
    folders = [str(folder / method) for method in benchmark.methods]
    command = ["compare", *folders, "--out", str(benchmark.out / benchmark.env)]
    if "ppo" in benchmark.methods:
        command += ["--against", "ppo"]
    subprocess.run(_archer(command), check=True)


def _start(benchmark: Benchmark, seed: int) -> list[str]:
    """Arguments of a seed's supervised start."""
    return ["--preset", "bc", "--env", benchmark.env, "--seed", str(seed)]


def _method(benchmark: Benchmark, folder: Path, method: str, seed: int) -> list[str]:
    """Arguments of one method's run from that start."""
    iterations = benchmark.iterations or ITERATIONS.get(benchmark.env, 40)
    start = folder / "starts" / f"seed-{seed}"
    return [
        "--preset", method, "--env", benchmark.env, "--seed", str(seed), "--start-from", str(start),
        "--set", f"iterations={iterations}", "eval.every=0",
    ]  # fmt: skip


def _train(run: Path, arguments: Sequence[str]) -> str | None:
    """Train a run that is not finished; its name if it failed."""
    if (run / "summary.json").exists():
        return None
    if any((run / "checkpoints").glob("[0-9]*")):
        command = ["train", "--resume", str(run), "--json"]
    else:
        shutil.rmtree(run, ignore_errors=True)
        sets = list(arguments)
        at = sets.index("--set") + 1 if "--set" in sets else len(sets)
        sets[at:at] = ["threads=1"] if "--set" in sets else ["--set", "threads=1"]
        command = ["train", "--run", str(run), "--json", *sets]
    run.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    log = run.parent / f"{run.name}.log"
    with log.open("a", encoding="utf-8") as errors:
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(_archer(command), env=one_thread, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode:
        return str(run)
    summary = json.loads(done.stdout)
    minutes = (time.perf_counter() - began) / 60
    print(f"{run}: {summary['start_return']:.2f} -> {summary['return_mean']:.2f}, {minutes:.1f} min", flush=True)
    return None


def _archer(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", "from archer.cli import main; main()", *arguments]


if __name__ == "__main__":
    main()
