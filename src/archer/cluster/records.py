"""What the ledger, the players and the learner tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINING = 0
"""The job that never ends: games to learn from. Evaluations are jobs with numbers of their own."""
CLOSED = -1
"""The job of going home."""


@dataclass(frozen=True)
class Terms:
    """What a run's ledger is kept by."""

    chunks: int
    """Chunks of games in an iteration."""
    iterations: int
    """Iterations of the run: games beyond them are not handed out."""
    lag: int
    """Most iterations that the weights which played a game may be behind those that learn from it."""
    overdue: float
    """Seconds after which what a player was handed is handed to another too; 0: never."""
    keep: int
    """Checkpoints that are kept: games that a resume from one of them needs stay on the disk."""


@dataclass(frozen=True)
class Work:
    """Games for a player to play at once."""

    job: int
    part: int
    """Of `TRAINING` the number of the chunk."""
    seeds: tuple[int, ...] = ()
    """Of its games; a chunk's follow from its number."""
    best_of: int = 0


@dataclass(frozen=True)
class Delivery:
    """What a player made of its work."""

    player: str
    job: int
    part: int
    publication: int
    """Which of the published weights played."""
    iteration: int
    """Iterations that these weights had learned from."""
    shard: bytes
    """The episodes, as `archer.storage.shards` packs them."""
    tally: Mapping[str, Any]
    """What failed in their environments, see `Faults.tally`."""
    seconds: float
    """How long it took to play them."""


@dataclass(frozen=True)
class Entry:
    """A chunk that has been acknowledged."""

    chunk: int
    iteration: int
    """Iterations that the weights which played it had learned from."""
    tally: Mapping[str, Any]
    seconds: float
    player: str


def chunk_path(folder: Path, chunk: int) -> Path:
    """Where the games of a chunk lie until no resume can ask for them any more."""
    return folder / f"{chunk:06d}.parquet"
