"""Runs of one method: how runs are grouped, and what the seeds of a method show together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archer.comparison.curves import AXES, Axis, RunCurve
from archer.comparison.intervals import Censored, Estimate, Floats, estimate, iqm, iqm_intervals
from archer.config.layers import flatten, to_dict

NOT_THE_METHOD = (
    "preset", "seed", "device", "threads", "keep_checkpoints", "env", "eval.every", "eval.games", "eval.final_games",
    "start_from", "iterations", "model.sharding",
)  # fmt: skip
"""Settings that make no other method of a preset; preset and task are compared on their own, and a longer run is the
same method for longer."""
DRAWN_POINTS = 200
"""Most points of a method's curve."""


@dataclass(frozen=True, eq=False)
class Repeat:
    """One run of a method, measured in the way of its comparison."""

    run: RunCurve
    smoothed: Floats
    """Means of the returns around each measured iteration, shape [points]."""
    before: Mapping[Axis, float]
    """What was spent before its first game: the games of the runs that it goes on from; demonstrations, where they
    count."""

    @property
    def seed(self) -> int:
        return self.run.config.seed

    def spent(self, axis: Axis) -> Floats:
        """What was spent up to each measured iteration, shape [points]."""
        run = self.run
        own: Mapping[Axis, Floats] = {
            "games": run.games, "turns": run.turns, "tokens": run.tokens, "seconds": run.seconds
        }  # fmt: skip
        return own[axis] + self.before[axis]

    def at(self, axis: Axis, amounts: Floats) -> Floats:
        """The smoothed return where just so much was spent, linear between iterations. Shape as ``amounts``.

        The line begins at the evaluation before the first game; NaN before that and behind the last iteration.
        """
        spent = np.append(self.before[axis], self.spent(axis))
        returns = np.append(self.run.start, self.smoothed)
        return np.asarray(np.interp(amounts, spent, returns, left=math.nan, right=math.nan))

    def needed(self, axis: Axis, level: float) -> float:
        """What was spent at the first iteration whose smoothed return is at or above the level; infinity if none is."""
        there = self.smoothed >= level
        return float(self.spent(axis)[there.argmax()]) if there.any() else math.inf


@dataclass(frozen=True, eq=False)
class Method:
    """The runs of one method, ordered by seed."""

    label: str
    repeats: tuple[Repeat, ...]
    start: Estimate
    """Evaluation before the first game."""
    final: Estimate | None
    """Evaluation of the trained agents of the runs that are finished, None if none is."""

    @property
    def best_of(self) -> int:
        """Utterances among which the critic chooses where its runs are measured; 0: the policy alone."""
        return self.repeats[0].run.best_of

    def curve(self, axis: Axis) -> tuple[Floats, Floats, tuple[Floats, Floats] | None]:
        """Amounts spent, interquartile mean there and the ends of its interval, as far as all seeds have come."""
        last = min(repeat.spent(axis)[-1] for repeat in self.repeats)
        first = min(last, max(repeat.spent(axis)[0] for repeat in self.repeats))
        amounts = np.unique(np.concatenate([repeat.spent(axis) for repeat in self.repeats]))
        amounts = amounts[(amounts >= first) & (amounts <= last)]
        if len(amounts) > DRAWN_POINTS:
            amounts = np.linspace(first, last, DRAWN_POINTS)
        returns = np.array([repeat.at(axis, amounts) for repeat in self.repeats])
        return amounts, iqm(returns), iqm_intervals(returns)

    def cost(self, axis: Axis, level: float) -> Censored:
        """What each seed spent to reach a level."""
        needed = np.array([repeat.needed(axis, level) for repeat in self.repeats])
        everything = np.array([repeat.spent(axis)[-1] for repeat in self.repeats])
        return Censored(np.where(np.isfinite(needed), needed, everything), needed)


def group(curves: Sequence[RunCurve], *, smooth: int, count_demonstrations: bool) -> tuple[Method, ...]:
    """The runs by method, in the order they came; ValueError for a seed that a method has twice.

    ``smooth`` is that of ``smoothed``; with ``count_demonstrations`` the demonstrations are games that were played.
    """
    groups: dict[str, dict[int, Repeat]] = {}
    for label, curve in zip(method_labels(curves), curves, strict=True):
        repeats = groups.setdefault(label, {})
        seed = curve.config.seed
        if seed in repeats:
            raise ValueError(
                f"{repeats[seed].run.path} and {curve.path} are the same seed ({seed}) of the same method ({label}): "
                "leave one of them out, since seeds are the repeats"
            )
        before = dict.fromkeys(AXES, 0.0)
        before["games"] += curve.games_before + (curve.demonstrations if count_demonstrations else 0)
        repeats[seed] = Repeat(curve, smoothed(curve.returns, curve.iterations, smooth), before)
    return tuple(_method(label, [repeats[seed] for seed in sorted(repeats)]) for label, repeats in groups.items())


def smoothed(returns: Floats, iterations: npt.NDArray[np.intp], smooth: int) -> Floats:
    """The mean of every measured iteration and those measured around it, within ``smooth`` (an odd number) iterations
    in all. Shape as ``returns`` and ``iterations``, which says when each was measured.

    As many after it as before it: a mean of what came before alone lags behind by half its length, for which whoever
    rises fastest pays most. So fewer of both at the beginning; at the end, where nothing follows, those before alone.
    """
    halves = np.minimum(smooth // 2, iterations - iterations[:1])
    near = np.abs(iterations[:, None] - iterations) <= halves[:, None]
    return np.array([returns[window].mean() for window in near])


def _method(label: str, repeats: Sequence[Repeat]) -> Method:
    finals = [repeat.run.final for repeat in repeats if repeat.run.final is not None]
    return Method(
        label,
        tuple(repeats),
        start=estimate([repeat.run.start for repeat in repeats]),
        final=estimate(finals) if finals else None,
    )


def method_labels(curves: Sequence[RunCurve]) -> list[str]:
    """What each run's method is called: its preset, and in what the runs of that preset differ: settings, the games
    that had been played before them, and whether they are read as they were played."""
    settings = [{**_flat(to_dict(curve.config)), "games_before": curve.games_before} for curve in curves]
    labels = []
    for curve, own in zip(curves, settings, strict=True):
        same = [other for one, other in zip(curves, settings, strict=True) if one.config.preset == curve.config.preset]
        differing = [name for name in own if any(other[name] != own[name] for other in same)]
        read = ["as played"] if curve.as_played else []
        labels.append(" ".join([curve.config.preset, *(f"{name}={_written(own[name])}" for name in differing), *read]))
    return labels


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the method by their dotted names."""
    parts = flatten({name: value for name, value in settings.items() if name not in NOT_THE_METHOD})
    return {name: value for name, value in parts.items() if name not in NOT_THE_METHOD}


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
