"""How long the pages of `archer view` wait for their server, on runs of a thousand and of a hundred thousand games.

    python benchmarks/viewing.py [--games 1000 100000] [--trained runs/q] [--as-json]

The runs are made up: as many games in each iteration as the settings have, of the length and with the words of Twenty
Questions. They have no checkpoint: what a critic takes to judge a game depends on its size, and is measured on
``trained``, where one is given. Medians of several requests over HTTP, with the processor's time, which other programs
on the machine do not lengthen; the very first request is told beside them.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from werkzeug.serving import WSGIRequestHandler, make_server

from archer.config import RunConfig
from archer.config.layers import to_yaml
from archer.storage.files import write_text
from archer.storage.shards import shard_path, write_shard
from archer.types import End, Episode, Turn, Utterance
from archer.view.server import create_app

TURNS = 12
"""Turns of a game, on average."""
WORDS = ("Is it alive?", "Is it found in a house?", "Is it bigger than a car?", "Can you eat it?", "Is it a football?")
RARE = "Is it a submarine?"
"""Said in one game of a thousand: what the filter by text looks for."""


@dataclass(frozen=True)
class Wait:
    """Seconds until an answer was there."""

    run: str
    games: int
    what: str
    first: float
    median: float
    processor: float
    """Median seconds of all cores together."""


def main(
    games: tuple[int, ...] = (1_000, 100_000), repeats: int = 7, trained: Path | None = None, as_json: bool = False
) -> None:
    """Measure all of them. games: of each run that is made up; trained: one with a checkpoint; as_json: print JSON."""
    found: list[Wait] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in games:
            run = make_run(Path(folder) / str(count), count)
            found += measure(run, "made up", count, repeats, "/episodes/train/1/3")
    if trained is not None:
        found += measure(trained, "trained", 0, repeats, "/episodes/final/0/3")
    show(found, as_json)


def measure(run: Path, name: str, games: int, repeats: int, game: str) -> list[Wait]:
    """All requests on one run, by a server that has just begun."""
    server = make_server("127.0.0.1", 0, create_app([run]), threaded=True, request_handler=_Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/api/runs"
    requests = {
        "overview": base,
        "list of games, first page": f"{base}/0/episodes?sort=iteration&limit=50",
        "sorted by return": f"{base}/0/episodes?sort=return&limit=50",
        "filtered by text": f"{base}/0/episodes?text={quote(RARE)}&limit=50",
        "a game": base + "/0" + game,
    }
    if not games:
        requests = {"a game": requests["a game"], "the critic's page": f"{base}/0/critic"}
    waits = [Wait(name, games, what, *_time(address, repeats)) for what, address in requests.items()]
    server.shutdown()
    return waits


def _time(address: str, repeats: int) -> tuple[float, float, float]:
    """Seconds of the first request; the median of those after it, and of the processor's time for them."""
    taken: list[float] = []
    worked: list[float] = []
    for _ in range(1 + repeats):
        start, work = time.perf_counter(), time.process_time()
        with urllib.request.urlopen(address) as answer:
            answer.read()
        taken.append(time.perf_counter() - start)
        worked.append(time.process_time() - work)
    return taken[0], median(taken[1:]), median(worked[1:])


class _Silent(WSGIRequestHandler):
    """Writes no log."""

    def log(self, *_: object) -> None:
        pass


def make_run(path: Path, games: int) -> Path:
    """A run folder as training leaves it, with so many games and a line of metrics for every iteration."""
    (path / "episodes").mkdir(parents=True)
    config = RunConfig()
    write_text(path / "config.yaml", to_yaml(config))
    random = np.random.default_rng(0)
    lines: list[str] = []
    for iteration, start in enumerate(range(0, games, config.rollout.games), start=1):
        part = [game(random, seed) for seed in range(start, min(games, start + config.rollout.games))]
        write_shard(shard_path(path / "episodes", iteration), part, iteration)
        row = {f"critic/number_{n:02d}": float(random.random()) for n in range(60)} | {"rollout/return_mean": -9.0}
        lines.append(json.dumps({"iteration": iteration, "games": start + len(part)} | row) + "\n")
    write_text(path / "metrics.jsonl", "".join(lines))
    return path


def game(random: np.random.Generator, seed: int) -> Episode:
    """A game of up to twice ``TURNS`` turns."""
    length = int(random.integers(1, 2 * TURNS))
    words = [WORDS[place] for place in random.integers(0, len(WORDS), length)]
    if seed % 1000 == 500:
        words[0] = RARE
    ids = random.integers(0, 2000, (length, 11)).astype(np.int32)
    whole = np.concatenate([ids[0, :5], ids.reshape(-1)])
    turns = tuple(
        Turn(
            prompt_ids=whole[: 5 + 11 * number],
            utterance=Utterance(ids[number, :6], random.normal(-1, 0.5, 6).astype(np.float32), said),
            observation="No." if number else "Questions:",
            reward=-1.0,
            info={"success": False, "asked": number},
        )
        for number, said in enumerate(words)
    )
    return Episode(turns, End.TERMINATED, whole, seed=seed, task="made-up", policy_version=0)


def show(found: list[Wait], as_json: bool) -> None:
    """Print as a table or as JSON."""
    if as_json:
        print(json.dumps([vars(wait) for wait in found]))
        return
    table = Table("run", "games", "what", "first, s", "median, s", "processor, s")
    for wait in found:
        seconds = (f"{value:.3f}" for value in (wait.first, wait.median, wait.processor))
        table.add_row(wait.run, f"{wait.games:,}", wait.what, *seconds)
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
