"""Timing: ours and the reference in turns, so that whatever else the machine does meets both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")


@dataclass(frozen=True)
class Measure:
    """One line of the table: a rate of ours and of the reference, medians of interleaved runs."""

    name: str
    unit: str
    ours: float
    reference: float
    target: float | None
    """The ratio to be reached."""
    ours_all: tuple[float, ...]
    reference_all: tuple[float, ...]
    roofline: float | None = None
    """Share of the least time that the hardware allows for our work."""
    bound: str | None = None
    """What that least time is spent on."""
    less_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How many times as good as the reference."""
        return self.reference / self.ours if self.less_is_better else self.ours / self.reference

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name, "unit": self.unit, "ours": self.ours, "reference": self.reference, "ratio": self.ratio,
            "target": self.target, "roofline": self.roofline, "bound": self.bound,
            "spread": {
                "ours": [min(self.ours_all), max(self.ours_all)],
                "reference": [min(self.reference_all), max(self.reference_all)],
            },
        }  # fmt: skip


def interleave(
    name: str,
    unit: str,
    ours: Callable[[], float],
    reference: Callable[[], float],
    *,
    repeats: int,
    target: float | None = None,
    least: tuple[float, str] | None = None,
) -> Measure:
    """Run both ``repeats`` times in turns; each does its work once and returns how much that was, in ``unit`` times s.

    least: seconds that one run of ours must take on this hardware, and what bounds it.
    """
    ours_runs, reference_runs = [], []
    for _ in range(repeats):
        ours_runs.append(timed(ours))
        reference_runs.append(timed(reference))
    ours_all, reference_all = (tuple(amount / took for amount, took in runs) for runs in (ours_runs, reference_runs))
    took = float(np.median([took for _, took in ours_runs]))
    return Measure(
        name, unit, float(np.median(ours_all)), float(np.median(reference_all)), target, ours_all, reference_all,
        roofline=least[0] / took if least else None, bound=least[1] if least else None,
    )  # fmt: skip


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns, and the seconds it took."""
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began
