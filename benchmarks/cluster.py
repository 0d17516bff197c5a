"""How much faster players on a cluster are than one process, where environments are slow; and what a ledger can take.

    python benchmarks/cluster.py training              wall-clock of one run, in line, with threads and on a cluster
    python benchmarks/cluster.py playing               games per second against players and latency
    python benchmarks/cluster.py ledger                chunks per second that one ledger acknowledges

The environments wait, they do not compute: so many players fit on few processors. Each prints one JSON line per case.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import tyro

import archer
from archer.cluster.company import RayCompany
from archer.cluster.joining import Cluster, joined
from archer.cluster.ledger import Ledger
from archer.cluster.records import Delivery, Terms
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.models.actor import Actor
from archer.models.tiny import build_tiny_actor
from archer.storage.runfolder import RunFolder
from archer.storage.shards import pack, read_shard

TURNS = 4


class Waiting:
    """A conversation of ``TURNS`` turns, each answered after so many seconds; the first word decides the reward."""

    def __init__(self, seconds: float = 0.5) -> None:
        self.seconds = seconds

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.turn, self.right = 0, False
        return "Say a word.", {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        time.sleep(self.seconds)
        self.right |= self.turn == 0 and utterance == "red"
        self.turn += 1
        over = self.turn == TURNS
        return "And then?", float(over and self.right), over, False, {}

    def demonstrator(self, seed: int) -> Any:
        words = ["red", "green", "blue", "yellow"]
        return lambda observation: words[seed // 2 % len(words)]


SMALL: dict[str, Any] = {
    "model": {"tiny": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 300}},
    "demonstrations": {"games": 0},
    "critic_start": {"epochs": 0},
    "actor_start": {"epochs": 0},
    "rollout": {"best_of": 0, "utterance_tokens": 4, "max_tokens": 96, "parallel": 64, "layout": "plain"},
    "critic": {"updates": 4, "batch_turns": 32},
    "actor": {"updates": 4, "batch_turns": 32},
    "eval": {"every": 0, "games": 2, "final_games": 2},
    "threads": 1,
}


def _config(folder: Path, **changes: Any) -> RunConfig:
    """A run of a tiny model that has never learned anything."""
    path = folder / "tiny"
    if not path.exists():
        texts = ["Say a word.\n", "And then?\n", "red", "green", "blue", "yellow"] * 3
        build_tiny_actor(texts, layers=1, width=32, heads=2, context=96, vocabulary=300, seed=0).save_pretrained(path)
    return overlay(overlay(RunConfig(), SMALL, "benchmark"), {"model": {"actor": str(path)}, **changes}, "benchmark")


def _tell(**found: object) -> None:
    print(json.dumps(found), file=sys.__stdout__, flush=True)  # what Ray says goes elsewhere


def training(
    seconds: float = 0.5,
    games: int = 64,
    iterations: int = 3,
    workers: int = 8,
    cases: tuple[str, ...] = ("in line", "threads", "cluster", "cluster, threads"),
) -> None:
    """Wall-clock of the iterations of one run, its start and last evaluation left out."""
    share = games // workers
    kinds: dict[str, dict[str, Any]] = {
        "in line": {},
        "threads": {"rollout": {"workers": workers}},
        "cluster": {"cluster": {"chunk": share}},
        "cluster, threads": {"cluster": {"chunk": share}, "rollout": {"workers": share}},
    }
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            folder = Path(name)
            config = overlay(_config(folder, iterations=iterations, rollout={"games": games}), kinds[case], "benchmark")
            run = folder / case.replace(", ", "-").replace(" ", "-")
            began = time.perf_counter()
            archer.train(
                config, run, env=partial(Waiting, seconds),
                cluster=Cluster("local", workers) if "cluster" in case else None,
            )  # fmt: skip
            whole = time.perf_counter() - began
            rows = [row for row in RunFolder(run).metrics() if row["iteration"]]
            spent = [row["time/iteration_s"] for row in rows]
            _tell(
                case=case, players=workers if "cluster" in case else 1, latency_s=seconds, games=games * iterations,
                iterations_s=round(sum(spent), 2), each_s=[round(s, 2) for s in spent], whole_s=round(whole, 1),
                behind=[row.get("rollout/iterations_behind") for row in rows],
            )  # fmt: skip


def playing(
    players: tuple[int, ...] = (1, 2, 4, 8),
    latencies: tuple[float, ...] = (0.1, 0.5),
    chunk: int = 8,
    threads: tuple[int, ...] = (0, 8),
    chunks_each: int = 3,
) -> None:
    """Games per second of a crew, learner idle: each player plays some chunks."""
    with tempfile.TemporaryDirectory() as name, joined(Cluster("local", max(players))) as ray:
        for crew in players:
            for workers in threads:
                for latency in latencies:
                    folder = Path(name) / f"{crew}-{workers}-{latency}"
                    config = _config(
                        Path(name),
                        iterations=1, rollout={"games": chunk, "workers": workers}, cluster={"chunk": chunk},
                    )  # fmt: skip
                    actor = Actor.from_pretrained(config.model.actor or "")
                    company = RayCompany(
                        ray, Cluster("local", crew), config, partial(Waiting, latency), folder,
                        games_before=0, iteration=0, say=lambda text: print(text, file=sys.stderr),
                    )  # fmt: skip
                    play = company.player(0, None)
                    while company.present < crew:  # until all have come, and have compiled what they play with
                        play(actor, None, range(1, 2 * crew * chunk, 2), policy_version=0)
                    games = crew * chunk * chunks_each
                    began = time.perf_counter()
                    play(actor, None, range(1, 2 * games, 2), policy_version=0)
                    rate = games / (time.perf_counter() - began)
                    at_once = min(chunk, max(1, workers))
                    _tell(
                        players=crew, threads=workers, latency_s=latency, games_per_s=round(rate, 3),
                        bound=round(crew * at_once / (TURNS * latency), 3),
                        share_of_bound=round(rate * TURNS * latency / (crew * at_once), 3),
                    )  # fmt: skip
                    company.close()


def ledger(games: tuple[int, ...] = (4, 16, 64), chunks: int = 200) -> None:
    """Chunks that one ledger acknowledges in a second, without Ray: its files and its journal, synced."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archer.train(_config(folder, iterations=1, rollout={"games": 16}), folder / "run", env=partial(Waiting, 0.0))
        episodes = read_shard(folder / "run" / "episodes" / "000001.parquet")
        for count in games:
            shard = pack((episodes * 4)[:count], 0)
            book = Ledger(folder / f"ledger-{count}", Terms(chunks, 1, 0, 0.0, 2))
            book.publish(1, 0)
            began = time.perf_counter()
            while (work := book.ask("a")) is not None:
                book.deliver(Delivery("a", work.job, work.part, 1, 0, shard, {}, 0.0))
            rate = chunks / (time.perf_counter() - began)
            _tell(games_each=count, bytes_each=len(shard), chunks_per_s=round(rate, 1), games_per_s=round(rate * count))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"training": training, "playing": playing, "ledger": ledger})
