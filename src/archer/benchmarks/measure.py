"""Timing: ours and the reference in turns, so that whatever else the machine does meets both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Measure:
    """One line of the table: a rate of ours and of the reference, medians of interleaved runs."""

    name: str
    unit: str
    ours: float
    reference: float | None
    """None where there is nothing to compare with."""
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
    def ratio(self) -> float | None:
        """How many times as good as the reference."""
        if self.reference is None:
            return None
        return self.reference / self.ours if self.less_is_better else self.ours / self.reference

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name, "unit": self.unit, "ours": self.ours, "reference": self.reference, "ratio": self.ratio,
            "target": self.target, "roofline": self.roofline, "bound": self.bound,
            "spread": {"ours": _ends(self.ours_all), "reference": _ends(self.reference_all)},
        }  # fmt: skip


def interleave(
    name: str,
    unit: str,
    ours: Callable[[], float],
    reference: Callable[[], float] | None,
    *,
    repeats: int,
    target: float | None = None,
    least: tuple[float, str] | None = None,
) -> Measure:
    """Run both ``repeats`` times in turns; each does its work once and returns how much that was, in ``unit`` times s.

    least: seconds that one run of ours must take on this hardware, and what bounds it.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    seconds: list[float] = []
    for _ in range(repeats):
        amount, took = timed(ours)
        rates[0].append(amount / took)
        seconds.append(took)
        if reference is not None:
            amount, took = timed(reference)
            rates[1].append(amount / took)
    return Measure(
        name, unit, float(np.median(rates[0])), float(np.median(rates[1])) if rates[1] else None, target,
        tuple(rates[0]), tuple(rates[1]),
        roofline=least[0] / float(np.median(seconds)) if least else None, bound=least[1] if least else None,
    )  # fmt: skip


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """What a call returns, and the seconds it took."""
    began = time.perf_counter()
    amount = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return amount, time.perf_counter() - began


def _ends(rates: tuple[float, ...]) -> list[float]:
    """Slowest and fastest run."""
    return [min(rates), max(rates)] if rates else []
