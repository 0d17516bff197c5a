"""Comparing runs of different methods on one task: their returns at equal cost, and their cost at equal returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archer.comparison.curves import AXES, Axis, RunCurve, find_runs, read_run
from archer.comparison.intervals import (
    COVERAGE,
    Bounds,
    Censored,
    Estimate,
    estimate,
    median_interval,
    median_ratio,
    ratio_interval,
)
from archer.comparison.methods import Method, group

SHARES = (0.25, 0.5, 1.0)
"""Parts of the largest common budget at which returns are compared."""


@dataclass(frozen=True)
class EqualCost:
    """The returns of all methods where each of their runs had spent the same."""

    axis: Axis
    amount: float
    returns: Mapping[str, Estimate | None]
    """By method; None where a run had not begun, because its demonstrations, where they count, or the games of the run
    that it goes on from are more than this."""


@dataclass(frozen=True)
class ToLevel:
    """What a method spent to reach a level of return: the median over seeds, and its 95 % interval."""

    reached: int
    """Seeds that reached it."""
    seeds: int
    median: Bounds
    interval: tuple[Bounds, Bounds] | None


@dataclass(frozen=True)
class Ratio:
    """How many times as much one method spent to reach a level as another, by their medians."""

    value: Bounds
    interval: tuple[float, float] | None
    never: bool
    """Whether no seed of the other method reached the level."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that ``archer compare`` tells. Mappings by method have one entry per ``Method.label``."""

    task: str
    axis: Axis
    smooth: int
    count_demonstrations: bool
    methods: tuple[Method, ...]
    reference: float | None
    """Best known return of the task."""
    equal_cost: tuple[EqualCost, ...]
    levels: Mapping[float, Mapping[str, ToLevel]]
    """What was spent on ``axis`` up to a level of return, by level."""
    against: str | None
    ratios: Mapping[float, Mapping[str, Ratio]]
    """Cost of ``against`` divided by that of every other method, by level; empty without ``against``."""
    notes: tuple[str, ...]
    """What a reader of the numbers must know about the runs behind them."""


def compare(
    runs: Sequence[str | Path],
    *,
    axis: Axis = "games",
    smooth: int = 5,
    levels: Sequence[float] = (),
    against: str | None = None,
    count_demonstrations: bool = False,
    as_played: bool = False,
) -> Comparison:
    """Compare the runs in these folders or below them; docs/comparing.md has the conventions.

    ``levels`` are returns to reach, chosen from the curves if none are given. With ``as_played``, runs whose critic
    chooses in training games and not in evaluations are there twice: measured by these and by those. Raises ValueError
    for runs that cannot be compared (other tasks, a seed twice, no returns), naming their folders, and for a method
    that is not among them.
    """
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(
            f"smooth averages over this many iterations, as many after as before: it must be 1, 3, 5, ..., got {smooth}"
        )
    if not all(math.isfinite(level) for level in levels):
        raise ValueError(f"levels must be finite returns, got {list(levels)}")
    read = {path: read_run(path) for path in find_runs([Path(run) for run in runs])}
    curves = [curve for curve in read.values() if curve is not None]
    if as_played:
        curves += [curve for path in read if (curve := read_run(path, as_played=True)) is not None]
    if not curves:
        raise ValueError(f"no run has finished an iteration yet: {', '.join(map(str, read))}")
    task = _only_task(curves)
    methods = group(curves, smooth=smooth, count_demonstrations=count_demonstrations)
    labels = [method.label for method in methods]
    if against is not None and against not in labels:
        raise ValueError(f"against: no method is called {against!r}; here are: {', '.join(map(repr, labels))}")
    chosen = sorted(set(levels)) or _between(methods, axis)
    references = [curve.reference for curve in curves if curve.reference is not None]
    return Comparison(
        task=task,
        axis=axis,
        smooth=smooth,
        count_demonstrations=count_demonstrations,
        methods=methods,
        reference=max(references, default=None),
        equal_cost=tuple(_equal_cost(methods, one, share) for one in AXES for share in SHARES),
        levels={level: {method.label: _to_level(method.cost(axis, level)) for method in methods} for level in chosen},
        against=against,
        ratios={level: _ratios(methods, against, axis, level) for level in chosen if against is not None},
        notes=(
            *_unfinished(read), *_continued(curves), *_trained_on(methods), *_chosen(methods),
            *_unequal_clocks(curves), *_few_seeds(methods),
        ),
    )  # fmt: skip


def _only_task(curves: Sequence[RunCurve]) -> str:
    tasks: dict[str, Path] = {}
    for curve in curves:
        env = curve.config.env
        tasks.setdefault(f"{env.name} {env.options}" if env.options else str(env.name), curve.path)
    if len(tasks) == 1:  # an environment of one's own, passed to `train`, has its name in the summary only
        tasks = {curve.task: curve.path for curve in reversed(curves) if curve.final is not None} or tasks
    if len(tasks) > 1:
        places = "; ".join(f"{task} in {path}" for task, path in tasks.items())
        raise ValueError(f"runs of different tasks cannot be compared: {places}")
    return next(iter(tasks))


def _equal_cost(methods: Sequence[Method], axis: Axis, share: float) -> EqualCost:
    """Returns at a share of the most that every run of every method has spent."""
    amount = share * min(float(repeat.spent(axis)[-1]) for method in methods for repeat in method.repeats)
    returns: dict[str, Estimate | None] = {}
    for method in methods:
        values = [float(repeat.at(axis, np.array(amount))) for repeat in method.repeats]
        returns[method.label] = None if any(map(math.isnan, values)) else estimate(values)
    return EqualCost(axis, amount, returns)


def _between(methods: Sequence[Method], axis: Axis) -> list[float]:
    """Four levels that divide the way from the mean return before the first game to the best that a curve reached."""
    start = float(np.mean([repeat.run.start for method in methods for repeat in method.repeats]))
    best = max(float(method.curve(axis)[1].max()) for method in methods)
    step = (best - start) / 5
    if step <= 0:
        return []
    power = math.floor(math.log10(step))
    unit = 10.0**power / 2  # two steps of rounding per power of ten: -12.5 beside -10, but not -12.37
    return sorted({round(round((start + part * step) / unit) * unit, max(0, 1 - power)) for part in range(1, 5)})


def _to_level(cost: Censored) -> ToLevel:
    return ToLevel(cost.reached, len(cost.needed), cost.median(), median_interval(cost))


def _ratios(methods: Sequence[Method], against: str, axis: Axis, level: float) -> dict[str, Ratio]:
    costs = {method.label: method.cost(axis, level) for method in methods}
    mine = costs.pop(against)
    return {
        label: Ratio(median_ratio(mine, cost), ratio_interval(mine, cost), never=not cost.reached)
        for label, cost in costs.items()
    }


def _unfinished(read: Mapping[Path, RunCurve | None]) -> list[str]:
    notes = []
    for path, curve in read.items():
        if curve is None:
            notes.append(f"left out, no iteration finished yet: {path}")
        elif curve.final is None:
            done = f"{curve.done} of {curve.config.iterations} iterations"
            notes.append(f"unfinished, taken as far as it has come ({done}): {path}")
    return notes


def _continued(curves: Sequence[RunCurve]) -> list[str]:
    return [
        f"goes on from a run that had played {curve.games_before:,} games: they are in its games, but its turns, "
        f"tokens and seconds are its own alone, in which it is not on equals with runs that began anew: {curve.path}"
        for curve in curves
        if curve.games_before
    ]


def _trained_on(methods: Sequence[Method]) -> list[str]:
    """That some curves are of games that were learned from, and others are not."""
    of_training = [m.label for m in methods if not all(repeat.run.held_out for repeat in m.repeats)]
    if not of_training or not any(repeat.run.held_out for method in methods for repeat in method.repeats):
        return []
    return [
        f"the curves of {', '.join(of_training)} are of training games, the others of evaluations on held-out ones: "
        "the former are charged one iteration more, as games are played with what those before had taught; where an "
        "agent may know its training games by heart, train with eval.every=1, which measures all alike"
    ]


def _chosen(methods: Sequence[Method]) -> list[str]:
    return [
        f"the returns of {method.label} are of its critic's choice among {method.best_of} utterances a turn, not of "
        "the policy alone"
        for method in methods
        if method.best_of
    ]


def _unequal_clocks(curves: Sequence[RunCurve]) -> list[str]:
    """Settings that change the clock without being part of the method."""
    configs = [curve.config for curve in curves]
    clocks: dict[str, set[object]] = {
        "device": {config.device for config in configs},
        "threads": {config.threads for config in configs},
        "eval.every": {config.eval.every for config in configs},
        "eval.games": {config.eval.games for config in configs if config.eval.every},
    }
    unequal = [f"{name} ({', '.join(sorted(map(str, values)))})" for name, values in clocks.items() if len(values) > 1]
    return [f"seconds are not on equals: the runs differ in {'; '.join(unequal)}"] if unequal else []


def _few_seeds(methods: Sequence[Method]) -> list[str]:
    few = min(len(method.repeats) for method in methods)
    if few == 1:
        return ["one seed alone has no interval: what differs may be chance"]
    if few in COVERAGE:
        return [
            f"a 95 % bootstrap interval of the interquartile mean of {few} seeds really holds the true value in about "
            f"{COVERAGE[few]} % of cases"
        ]
    return []
