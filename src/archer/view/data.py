"""What the pages ask for: a run's settings and curves, its games by query, and one game with what the critic thinks.

Games are looked up in the Parquet shards; nothing is held in memory but what a page shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archer.extras import need
from archer.runfolder import RunFolder
from archer.settings import flatten, to_dict

if TYPE_CHECKING:
    from archer.models.critic import Critic

SOURCES = {
    "train": "episodes/*.parquet",
    "start": "start.parquet",
    "offline": "offline.parquet",
    "final": "final.parquet",
}
"""Where games lie: those that were learned from, and the evaluations at three moments."""
SORTED_BY = ("return", "length", "iteration", "seed", "end")
MOST = 200
"""Games on a page."""


@dataclass(frozen=True)
class Query:
    """Which games of a run, and in which order."""

    source: str = "train"
    sort: str = "iteration"
    descending: bool = True
    offset: int = 0
    limit: int = 50
    least: float | None = None
    """Returns from here on."""
    most: float | None = None
    end: str = ""
    text: str = ""
    """Something that was said or heard, in any case."""
    iteration: int | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {self.source!r}")
        if self.sort not in SORTED_BY:
            raise ValueError(f"sort must be one of {', '.join(SORTED_BY)}, got {self.sort!r}")
        if not (self.offset >= 0 and 1 <= self.limit <= MOST):
            raise ValueError(f"offset must not be negative and limit be from 1 to {MOST}")


class RunView:
    """One run folder, read anew at every call: it may still be training."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder.open(path)

    def overview(self) -> dict[str, Any]:
        """Settings, curves and outcome."""
        rows = self.folder.metrics()
        names = sorted({name for row in rows for name in row if name not in ("iteration", "not_finite")})
        summary = self.folder.summary_file
        return {
            "path": str(self.folder.path),
            "config": to_dict(self.folder.config()),
            "summary": json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else None,
            "iterations": [row["iteration"] for row in rows],
            "metrics": {name: [_number(row.get(name)) for row in rows] for name in names},
            "sources": [name for name, pattern in SOURCES.items() if any(self.folder.path.glob(pattern))],
        }

    def episodes(self, query: Query) -> dict[str, Any]:
        """Games that fit a query: how many, and one page of them."""
        shards = sorted(map(str, self.folder.path.glob(SOURCES[query.source])))
        if not shards:
            return {"count": 0, "rows": []}
        where, values = _conditions(query)
        table = "read_parquet(?, file_row_number = true)"
        order = f'"{query.sort}" {"DESC" if query.descending else "ASC"}, iteration DESC, file_row_number'
        with need("duckdb", "view").connect() as database:
            counted = database.execute(f"SELECT count(*) FROM {table} WHERE {where}", [shards, *values]).fetchone()
            found = database.execute(
                'SELECT iteration, file_row_number, seed, "return", length, success, "end", policy_version '
                f"FROM {table} WHERE {where} ORDER BY {order} LIMIT {query.limit} OFFSET {query.offset}",
                [shards, *values],
            ).fetchall()
        columns = ("iteration", "row", "seed", "return", "length", "success", "end", "policy_version")
        return {"count": counted[0], "rows": [dict(zip(columns, row, strict=True)) for row in found]}

    def episode(self, source: str, iteration: int, row: int) -> dict[str, Any]:
        """One game, turn by turn, with Q, V and tokens where there are a critic and a tokenizer; else LookupError."""
        from archer.storage import read_rows

        if source not in SOURCES:
            raise LookupError(f"there are no games {source!r}")
        path = self.folder.path / (f"episodes/{iteration:06d}.parquet" if source == "train" else SOURCES[source])
        if not path.exists():
            raise LookupError(f"{path} is not there")
        episode = read_rows(path, row, 1)[0]
        judge = _judge(self.folder.path, _newest(self.folder))
        values: Sequence[tuple[float, float]] = judge.values(episode) if judge else []
        turns = [
            {
                "observation": turn.observation,
                "utterance": turn.utterance.text,
                "reward": turn.reward,
                "tokens": judge.tokens(turn.utterance.ids) if judge else [],
                "logprobs": [_number(float(value)) for value in turn.utterance.logprobs],
                "q": _number(values[number][0]) if values else None,
                "v": _number(values[number][1]) if values else None,
            }
            for number, turn in enumerate(episode.turns)
        ]
        return {
            "seed": episode.seed, "return": episode.return_, "end": str(episode.end), "success": episode.success,
            "source": source, "iteration": iteration, "row": row, "turns": turns,
            "judged_by": judge.name if judge and values else None,
        }  # fmt: skip


def _conditions(query: Query) -> tuple[str, list[Any]]:
    """SQL of what a query asks for, values apart: nothing that was typed becomes part of it."""
    parts, values = ["true"], []
    for condition, value in (
        ('"return" >= ?', query.least),
        ('"return" <= ?', query.most),
        ('"end" = ?', query.end or None),
        ("iteration = ?", query.iteration),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    if query.text:
        said = "[turn.observation || ' ' || turn.utterance for turn in turns]"
        parts.append(f"contains(lower(array_to_string({said}, ' ')), lower(?))")
        values.append(query.text)
    return " AND ".join(parts), values


class _Judge:
    """A checkpoint's critic and tokenizer."""

    def __init__(self, path: Path) -> None:
        from archer.api import load, load_critic

        self._run = load(path)
        self.name = f"the critic after {self._run.iteration} iterations"
        self._critic: Critic | None = None
        with suppress(ValueError):  # where the method has none
            self._critic = load_critic(self._run)

    def values(self, episode: Any) -> list[tuple[float, float]]:
        """Q and V of every turn; empty without a critic."""
        from archer.scoring import score_episodes

        if self._critic is None:
            return []
        return [(one.q, one.v) for one in score_episodes(self._run, self._critic, [episode])[0]]

    def tokens(self, ids: Any) -> list[str]:
        """Every token as text; those that mean something to the model only, such as the one that stops, as ∎."""
        tokenizer = self._run.actor.tokenizer
        special = set(tokenizer.all_special_ids)
        return ["∎" if int(token) in special else str(tokenizer.decode([int(token)])) for token in ids]


def _newest(folder: RunFolder) -> str:
    return max((path.name for path in folder.checkpoints.glob("[0-9]*") if (path / "state.json").exists()), default="")


@lru_cache(maxsize=4)
def _judge(path: Path, checkpoint: str) -> _Judge | None:
    """The judge of a run's newest checkpoint, loaded once; None while there is none."""
    from archer.checkpoint import CheckpointError

    try:
        return _Judge(path) if checkpoint else None
    except CheckpointError:
        return None


def _number(value: object) -> float | None:
    """A number that JSON has a word for."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted settings in which runs differ, with the value of each."""
    flat = [flatten(config) for config in configs]
    names = sorted({name for one in flat for name in one})
    return {
        name: [one.get(name) for one in flat]
        for name in names
        if len({json.dumps(one.get(name), sort_keys=True, default=str) for one in flat}) > 1
    }
