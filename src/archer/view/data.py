"""What the pages ask for: a run's settings and curves, its games by query, and one game with what the critic thinks.

Games are looked up in the Parquet shards; nothing is held in memory but what a page shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archer.config.layers import flatten, to_dict
from archer.extras import need
from archer.storage.runfolder import RunFolder
from archer.types import Episode, Turn

if TYPE_CHECKING:
    from archer.operations.scoring import Score
    from archer.view.judging import Judge

SOURCES = {
    "train": "episodes/*.parquet",
    "start": "start.parquet",
    "offline": "offline.parquet",
    "eval": "evaluations/*.parquet",
    "final": "final.parquet",
}
"""Where games lie: those that were learned from, and the evaluations before, during and after that."""
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
    seed: int | None = None
    """The task: games of one seed begin alike."""

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
        summary = self.folder.summary() if self.folder.summary_file.exists() else None
        if summary is not None and rows:  # the last evaluation is no line of the metrics
            measured = {f"eval/{name}": summary.get(name) for name in ("return_mean", "return_ci95")}
            rows = [*rows, {"iteration": rows[-1]["iteration"], "games": rows[-1].get("games")} | measured]
        names = sorted({name for row in rows for name in row if name not in ("iteration", "not_finite")})
        return {
            "path": str(self.folder.path),
            "config": to_dict(self.folder.config()),
            "summary": summary,
            "iterations": [row["iteration"] for row in rows],
            "metrics": {name: [number(row.get(name)) for row in rows] for name in names},
            "sources": self.sources(),
        }

    def sources(self) -> list[str]:
        """Names of ``SOURCES`` of which there are games."""
        return [name for name, pattern in SOURCES.items() if any(self.folder.path.glob(pattern))]

    def episodes(self, query: Query) -> dict[str, Any]:
        """Games that fit a query: how many, and one page of them."""
        shards = sorted(map(str, self.folder.path.glob(SOURCES[query.source])))
        if not shards:
            return {"count": 0, "rows": []}
        where, values = _conditions(query)
        columns = ("iteration", "row", "seed", "return", "length", "success", "end", "policy_version")
        order = f'"{query.sort}" {"DESC" if query.descending else "ASC"}, iteration DESC, row'
        chosen = ", ".join('file_row_number AS "row"' if name == "row" else f'"{name}"' for name in columns)
        table = "read_parquet(?, file_row_number = true, filename = true)"
        with need("duckdb", "view").connect() as database:
            if query.text:
                from archer.view.words import find

                said = find(shards, query.text)
                database.register("said", said)
                shards = said["filename"].unique().to_pylist() or shards[:1]
                table += " SEMI JOIN said USING (filename, file_row_number)"
            # One pass over the shards; what fits is narrow.
            database.execute(
                f"CREATE TEMP TABLE found AS SELECT {chosen} FROM {table} WHERE {where}", [shards, *values]
            )
            (count,) = database.execute("SELECT count(*) FROM found").fetchone()
            found = database.execute(
                f"SELECT * FROM found ORDER BY {order} LIMIT {query.limit} OFFSET {query.offset}"
            ).fetchall()
        return {"count": count, "rows": [dict(zip(columns, row, strict=True)) for row in found]}

    def episode(self, source: str, iteration: int, row: int) -> dict[str, Any]:
        """One game, turn by turn, with Q, V and tokens where there are a critic and a tokenizer; else LookupError."""
        (episode,) = self.read(source, iteration, row, 1)
        judge = self.judge()
        scores: Sequence[Score | None] = judge.scores(episode) if judge else []
        judged = any(score is not None for score in scores)
        turns = [
            told(turn, score, judge) for turn, score in zip(episode.turns, scores or [None] * len(episode), strict=True)
        ]
        return {
            "seed": episode.seed, "return": episode.return_, "end": str(episode.end), "success": episode.success,
            "source": source, "iteration": iteration, "row": row, "turns": turns,
            "judged_by": judge.name if judge and judged else None, "policy": judge is not None,
            "discount": judge.run.config.critic.discount if judge else None,
        }  # fmt: skip

    def siblings(self, source: str, iteration: int, row: int, turn: int, count: int, draw: int) -> dict[str, Any]:
        """What the newest checkpoint would say at a turn, from 0, of a game; LookupError where either is not there."""
        (episode,) = self.read(source, iteration, row, 1)
        judge = self.judge()
        if judge is None or turn >= len(episode):
            raise LookupError("this run has no checkpoint yet" if judge is None else f"there is no turn {turn + 1}")
        return {
            "drawn": count,
            "iteration": judge.run.iteration,
            "judged": judge.critic is not None,
            "ranked": judge.siblings(episode, turn, count, draw),
        }

    def read(self, source: str, iteration: int, row: int, count: int) -> list[Episode]:
        """``count`` games of a shard from ``row`` on; LookupError where they are not."""
        from archer.storage.shards import read_rows

        if source not in SOURCES:
            raise LookupError(f"there are no games {source!r}")
        path = self.folder.path / SOURCES[source].replace("*", f"{iteration:06d}")
        if not path.exists():
            raise LookupError(f"{path} is not there")
        return read_rows(path, row, count)

    def judge(self) -> Judge | None:
        """The newest checkpoint's policy and critic, loaded once; None while there is none."""
        checkpoints = self.folder.checkpoints.glob("[0-9]*")
        newest = max((path.name for path in checkpoints if (path / "state.json").exists()), default=None)
        if newest is None:
            return None
        from archer.view.judging import judge_of  # loads torch, which takes seconds

        return judge_of(self.folder.path, newest)


def told(turn: Turn, score: Score | None, judge: Judge | None) -> dict[str, Any]:
    """A turn as the pages show it."""
    return {
        "observation": turn.observation,
        "utterance": turn.utterance.text,
        "reward": turn.reward,
        "tokens": judge.tokens(turn.utterance.ids) if judge else [],
        "logprobs": [number(float(value)) for value in turn.utterance.logprobs],
        "q": number(score.q) if score else None,
        "v": number(score.v) if score else None,
    }


def _conditions(query: Query) -> tuple[str, list[Any]]:
    """SQL of what a query asks for, values apart: nothing that was typed becomes part of it."""
    parts, values = ["true"], []
    for condition, value in (
        ('"return" >= ?', query.least),
        ('"return" <= ?', query.most),
        ('"end" = ?', query.end or None),
        ("iteration = ?", query.iteration),
        ("seed = ?", query.seed),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values


def number(value: object) -> float | None:
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
