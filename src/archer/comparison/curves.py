"""Learning curves as run folders hold them: which folders are runs, and what each measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from archer.comparison.intervals import Floats
from archer.config import RunConfig
from archer.storage.runfolder import RunFolder

Axis = Literal["games", "turns", "tokens", "seconds"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True, eq=False)
class RunCurve:
    """What a run's agent returned, iteration by iteration; arrays have shape [points].

    Its evaluations measure it, where every iteration has one or training games are not played as the agent is evaluated
    (``rollout.best_of`` is not ``eval.best_of``); otherwise its training games do, and every iteration is a point. Read
    as it was played, its training games do in any case.
    """

    path: Path
    config: RunConfig
    task: str
    games_before: int
    """Games that the runs had played which this one goes on from; of these its folder knows nothing else."""
    iterations: npt.NDArray[np.intp]
    """Which iteration each point is of, from 1."""
    best_of: int
    """Utterances among which the critic chose in the games that the returns are of; 0: the policy alone."""
    done: int
    """Iterations that are finished, whether they are points or not."""
    games: Floats
    """Games that it has played itself so far, warm-up included."""
    turns: Floats
    """Utterances said in these games so far, each of which the environment was asked to answer."""
    tokens: Floats
    """Tokens said in these games so far; siblings, which are sampled to learn from and never said, are not in it."""
    seconds: Floats
    """Wall-clock so far: what critic and actor learned before the first game, playing, learning and the evaluations
    among them; not the supervised start."""
    returns: Floats
    """Mean return of each iteration's training games, or of its evaluation."""
    held_out: bool
    """Whether the returns are of evaluations, whose games are never trained on."""
    start: float
    """Evaluation before the first game, after all that was learned from demonstrations; of a run that is read as it was
    played and measured otherwise, its first games, from which nothing had been learned yet."""
    final: float | None
    """Evaluation of the trained agent, None while the run goes on, or where it was not as the returns are."""
    reference: float | None
    """Best known return of the task, None if that or the end of the run is unknown."""
    demonstrations: int

    @property
    def as_played(self) -> bool:
        """Whether the returns are of games that were not played as the agent is evaluated."""
        return self.best_of != self.config.eval.best_of


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The runs among ``folders`` and at any depth below them, each once; ValueError where there is none."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder: name run folders, or folders that hold some")
        runs = list(_runs_below(folder))
        if not runs:
            raise ValueError(f"{folder} is not a run and holds none: no config.yaml in it or below")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _runs_below(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        if "config.yaml" in files:
            folders.clear()  # a run holds no runs
            yield Path(path)


def read_run(path: Path, *, as_played: bool = False) -> RunCurve | None:
    """The curve of a run so far, None before its first iteration; ValueError for what cannot be compared.

    With ``as_played`` that of its training games where its critic chooses in these and not in evaluations; None where
    that would be no other curve.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    if not config.rollout.games:
        raise ValueError(
            f"{path} played nothing (rollout.games=0), so it has no curve to compare: leave it out. What it came to: "
            f"`archer evaluate {path}`, with --env where it learned from files alone"
        )
    if as_played and config.plays_as_measured:
        return None
    rows = folder.metrics()
    before, played = ([row for row in rows if (row["iteration"] == 0) == wanted] for wanted in (True, False))
    if not played:
        return None
    for number, row in enumerate(played, start=1):
        if row["iteration"] != number:
            raise ValueError(f"{folder.metrics_file}: iteration {row['iteration']!r} stands where {number} should")
    points, returns, held_out = _played(folder, played) if as_played else _measured(folder, config, played)
    earlier = int((_number(before[-1], "games", folder.metrics_file) if before else None) or 0)
    games = _column(folder, played, "games") - earlier
    new = np.diff(games, prepend=0.0)
    if (new <= 0).any():
        raise ValueError(f"{folder.metrics_file}: games must grow from iteration to iteration")
    start = _number(before[-1], "eval/return_mean", folder.metrics_file) if before else None
    if start is None:
        raise ValueError(f"{folder.metrics_file}: no evaluation before the first game (iteration 0)")
    if as_played:
        start = float(returns[0])
    began = _number(before[-1], "time/start_s", folder.metrics_file) or 0.0
    summary = _summary(folder)
    return RunCurve(
        path=path,
        config=config,
        task=str((summary or {}).get("task", config.env.name)),
        games_before=earlier,
        iterations=points + 1,
        best_of=config.rollout.best_of if as_played else config.eval.best_of,
        done=len(played),
        games=games[points],
        turns=np.cumsum(_column(folder, played, "rollout/length") * new)[points],
        tokens=np.cumsum(_column(folder, played, "rollout/tokens"))[points],
        seconds=began + np.cumsum(_column(folder, played, "time/iteration_s"))[points],
        returns=returns,
        held_out=held_out,
        start=start,
        final=None if summary is None or as_played else _final(folder, summary),
        reference=_number(summary or {}, "reference_return", folder.summary_file),
        demonstrations=int((summary or {}).get("demonstrations", config.demonstrations.games or 0)),
    )


def _measured(
    folder: RunFolder, config: RunConfig, played: Sequence[Mapping[str, Any]]
) -> tuple[npt.NDArray[np.intp], Floats, bool]:
    """Which iterations say how good the agent was, its return there, and whether that is of evaluations."""
    points = [index for index, row in enumerate(played) if row.get("eval/return_mean") is not None]
    if config.plays_as_measured and len(points) < len(played):
        return _played(folder, played)
    if not points:
        raise ValueError(
            f"{folder.metrics_file}: games to learn from are played with rollout.best_of={config.rollout.best_of} and "
            f"the agent is measured with eval.best_of={config.eval.best_of}, but there is no evaluation after the "
            "start; train with eval.every=1"
        )
    return np.array(points), _column(folder, [played[index] for index in points], "eval/return_mean"), True


def _played(folder: RunFolder, played: Sequence[Mapping[str, Any]]) -> tuple[npt.NDArray[np.intp], Floats, bool]:
    """The same of training games: every iteration."""
    return np.arange(len(played)), _column(folder, played, "rollout/return_mean"), False


def _column(folder: RunFolder, rows: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """A number of every iteration; what is counted must have been spent."""
    column = []
    for row in rows:
        place = f"{folder.metrics_file}, iteration {row['iteration']}"
        value = _number(row, key, place)
        if value is None:
            raise ValueError(f"{place}: no {key}; a run without games and their returns cannot be compared")
        if value <= 0 and not key.endswith("/return_mean"):
            raise ValueError(f"{place}: {key} must be more than 0, got {value:g}")
        column.append(value)
    return np.array(column)


def _final(folder: RunFolder, summary: Mapping[str, Any]) -> float:
    final = _number(summary, "return_mean", folder.summary_file)
    if final is None:
        raise ValueError(f"{folder.summary_file}: no return_mean; a run without an evaluation cannot be compared")
    return final


def _summary(folder: RunFolder) -> Mapping[str, Any] | None:
    """The outcome of a finished run, None while it goes on."""
    if not folder.summary_file.exists():
        return None
    try:
        summary: object = json.loads(folder.summary_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder.summary_file}: not JSON: {error}") from None
    if not isinstance(summary, dict):
        raise ValueError(f"{folder.summary_file}: an object is needed, got {type(summary).__name__}")
    return summary


def _number(row: Mapping[str, Any], key: str, place: object) -> float | None:
    """A finite number, None if it is null or missing."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{place}: {key} must be a number, got {value!r}")
    return float(value)
