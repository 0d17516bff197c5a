"""Train methods × seeds on one task from the same supervised starts, and compare what they reach with how many games.

    python benchmarks/sample_efficiency.py online --env twenty-questions-10 --seeds 5
    python benchmarks/sample_efficiency.py online --env twenty-questions --seeds 3
    python benchmarks/sample_efficiency.py begun --env twenty-questions-10 --seeds 5
    python benchmarks/sample_efficiency.py offline --env twenty-questions-10 --seeds 5

Every seed has one start, which all methods go on from; with `begun`, PPO goes on from what `archer` has learned from
the demonstrations' rewards before its first game; offline methods learn from one file of the demonstrator's games.
What is done is not done again: stop it at any time and start it anew, a run that was cut off goes on from its last
checkpoint. Of a finished run, what comparisons read is kept in benchmarks/kept, a few kilobytes that are part of the
project: so seeds can be added on another day and another machine. The tables of docs/results.md, the pictures beside it
and docs/results.json are written anew from all that is kept.
"""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from results import PAGE, current, keep, kept_folder, offline_table, online_tables, replace_block, write_curves
from running import Benchmark, archer, from_start, task, train_all, train_begun, train_starts

from archer.cli.commands import Train
from archer.cli.training import settings
from archer.report.comparison import write_comparison

KEPT = kept_folder("kept")
"""What is kept of finished runs: TASK/METHOD/seed-N; TASK/METHOD-before/seed-N those of an earlier recipe."""
KEPT_BEGUN = kept_folder("kept_begun")
"""The same of those that go on from what `archer` learned before its first game."""
KEPT_OFFLINE = kept_folder("kept_offline")
"""The same of those that play nothing, of which there is no more than the end."""
FROM_OURS = (
    "model.actor", "model.critic", "model.critic_model", "model.tiny.layers", "model.tiny.vocabulary", "rollout.layout",
    "rollout.utterance_tokens", "rollout.max_tokens", "critic.lr", "critic.batch_turns", "actor.lr",
    "actor.weight_decay", "actor.updates", "actor.batch_turns", "actor.accumulation", "actor.newest_turns",
    "replay_turns", "warmup",
)  # fmt: skip
"""What `archer-paper` has of `archer-reinforce` here: models, prompts, and the rates and sizes they learn with."""
ALIKE = ("twenty-questions", "twenty-questions-10")
"""Tasks whose held-out games hide the same objects as those to learn from, so that these measure an agent too."""


@dataclass(frozen=True)
class Online(Benchmark):
    """Methods that play."""

    methods: tuple[str, ...] = (
        "archer", "archer-reinforce", "archer-baseline", "archer-mc", "chai", "filtered-bc", "ppo", "turn-ppo", "grpo",
        "gigpo",
    )  # fmt: skip
    """Presets."""
    iterations: int = 0
    """Iterations, of as many games as each preset has; 0 for as many iterations as each has too."""


@dataclass(frozen=True)
class Begun(Benchmark):
    """PPO from where `archer` begins its games: that actor, and values that begin with the demonstrations' returns."""

    iterations: int = 50
    """Iterations, of as many games as PPO has."""


@dataclass(frozen=True)
class Offline(Benchmark):
    """Methods that learn from one file."""

    methods: tuple[str, ...] = ("bc", "filtered-bc-offline", "sarsa-awr", "iql-reinforce-bc", "archer-offline")
    """Presets."""
    games: int = 12_000
    """Games of the demonstrator in the file."""


def main() -> None:
    """Do what the command line says."""
    benchmark: Online | Begun | Offline = tyro.cli(
        Annotated[Online, tyro.conf.subcommand("online")]
        | Annotated[Begun, tyro.conf.subcommand("begun")]
        | Annotated[Offline, tyro.conf.subcommand("offline")],
        description=__doc__,
    )
    regenerate(benchmark)


def regenerate(benchmark: Online | Begun | Offline) -> None:
    """Train what is missing of a benchmark, then write its tables, picture and curves."""
    if isinstance(benchmark, Online):
        train_online(benchmark)
        tables, found = online_tables(current(KEPT / benchmark.env), against="ppo")
        write_comparison(found, PAGE.parent / "results" / benchmark.env)
        replace_block(PAGE, benchmark.env, tables)
        write_curves(_all_kept(), PAGE.with_suffix(".json"))
    elif isinstance(benchmark, Begun):
        train_from_begun(benchmark)
        tables, _ = online_tables([KEPT / benchmark.env / "archer", KEPT_BEGUN / benchmark.env], against="ppo")
        replace_block(PAGE, f"{benchmark.env} begun", tables)
        write_curves(_all_kept(), PAGE.with_suffix(".json"))
    else:
        train_offline(benchmark)
        table = offline_table(KEPT_OFFLINE / benchmark.env, benchmark.methods)
        replace_block(PAGE, f"{benchmark.env} offline", table)


def train_online(benchmark: Online) -> None:
    """Train what is not kept yet, and keep it."""
    kept = KEPT / benchmark.env
    missing = [
        (method, seed)
        for seed in range(benchmark.seeds)
        for method in benchmark.methods
        if not (kept / method / f"seed-{seed}").exists()
    ]
    starts = train_starts(benchmark, sorted({seed for _, seed in missing}))
    iterations = [f"iterations={benchmark.iterations}"] if benchmark.iterations else []
    train_all(
        benchmark.jobs,
        {
            benchmark.folder / method / f"seed-{seed}": from_start(
                method, benchmark.env, seed, starts[seed], *_fitted(method, benchmark.env), *iterations,
                f"eval.every={_every(method, benchmark.env)}",
            )
            for method, seed in missing
        },
        lambda run: keep(run, kept / run.parent.name / run.name),
    )  # fmt: skip


def train_from_begun(benchmark: Begun) -> None:
    """PPO's runs that are not kept yet, and keep them."""
    kept, name = KEPT_BEGUN / benchmark.env, "ppo-begun"
    missing = [seed for seed in range(benchmark.seeds) if not (kept / name / f"seed-{seed}").exists()]
    begun = train_begun(benchmark, train_starts(benchmark, missing))
    train_all(
        benchmark.jobs,
        {
            benchmark.folder / name / f"seed-{seed}": from_start(
                "ppo", benchmark.env, seed, run, f"iterations={benchmark.iterations}", "critic_start.epochs=1",
                "eval.every=0",
            )
            for seed, run in begun.items()
        },
        lambda run: keep(run, kept / run.parent.name / run.name),
    )  # fmt: skip


def _all_kept() -> list[Path]:
    """The folders that hold something."""
    return [folder for folder in (KEPT, KEPT_BEGUN) if any(folder.glob("*/*/seed-*"))]


def _every(method: str, env: str) -> int:
    """Iterations between evaluations: none where training games show how good the agent is."""
    return 0 if env in ALIKE and settings(Train(preset=method, env=env)).plays_as_measured else 1


def _fitted(method: str, env: str) -> list[str]:
    """Settings that let a preset for other models have the built-in ones."""
    if method != "archer-paper":
        return []
    ours = settings(Train(preset="archer-reinforce", env=env))
    found = ((name, functools.reduce(getattr, name.split("."), ours)) for name in FROM_OURS)
    return [f"{name}={'null' if value is None else value}" for name, value in found]


def train_offline(benchmark: Offline) -> None:
    """Methods that learn from one file, and keep what they came to."""
    kept, folder = KEPT_OFFLINE / benchmark.env, benchmark.runs / f"{benchmark.env}-offline"
    missing = [
        (method, seed)
        for seed in range(benchmark.seeds)
        for method in benchmark.methods
        if not (kept / method / f"seed-{seed}").exists()
    ]
    if not missing:
        return
    data = folder / "demonstrations.parquet"
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        collect = ["collect", "demonstrator", "--env", benchmark.env, "--episodes", str(benchmark.games)]
        subprocess.run(archer([*collect, "--out", str(data)]), check=True)
    starts = {seed: folder / "bc" / f"seed-{seed}" for seed in sorted({seed for _, seed in missing})}

    def finished(run: Path) -> None:
        place = kept / run.parent.name / run.name
        if not place.exists():  # a start is trained anew for the methods that go on from it
            keep(run, place)

    train_all(
        benchmark.jobs,
        {
            start: ["--preset", "bc", "--offline", str(data), *task(benchmark.env, seed)]
            for seed, start in starts.items()
        },
        finished,
    )
    train_all(
        benchmark.jobs,
        {
            folder / method / f"seed-{seed}": from_start(method, benchmark.env, seed, starts[seed], "eval.every=0")
            for method, seed in missing
            if method != "bc"
        },
        finished,
    )


if __name__ == "__main__":
    main()
