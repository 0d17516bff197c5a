"""The reliability of a critic as a picture: what became of turns that it valued alike, against what it said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from archer.health.numbers import Numbers, ValuedTurns
from archer.storage.files import replacing

BINS = 10


def reliability_bins(turns: ValuedTurns) -> tuple[Numbers, Numbers, Numbers]:
    """Mean Q, mean return and half-width of its 95 % interval in ten bins of near-equally many turns, each [bins].

    The interval takes the turns of one game for one (they share their luck); it is infinite for a bin of one game.
    """
    q = turns.q.min(axis=1)
    parts = [part for part in np.array_split(np.argsort(q, kind="stable"), BINS) if len(part)]
    widths = []
    for part in parts:
        residual = turns.returns[part] - turns.returns[part].mean()
        sums = np.bincount(np.unique(turns.game[part], return_inverse=True)[1], residual)
        games = len(sums)
        widths.append(1.96 * (games / (games - 1) * (sums**2).sum()) ** 0.5 / len(part) if games > 1 else np.inf)
    return (
        np.array([q[part].mean() for part in parts]),
        np.array([turns.returns[part].mean() for part in parts]),
        np.array(widths),
    )


def plot_reliability(turns: ValuedTurns, path: Path, *, title: str) -> None:
    """Realised return against Q in ten bins, with the diagonal on which a calibrated critic lies."""
    said, came, half_width = reliability_bins(turns.only(turns.finite))
    figure = Figure(figsize=(6, 5.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    if len(said):
        ends = [min(said.min(), came.min()), max(said.max(), came.max())]
        axes.plot(ends, ends, color="tab:gray", linestyle="--", label="calibrated")
    bars = np.where(np.isfinite(half_width), half_width, np.nan)
    axes.errorbar(
        said, came, yerr=bars, fmt="o-", color="tab:blue", capsize=3, label="turns in ten bins, 95 % interval"
    )
    axes.set(xlabel="Q, the lesser of both heads", ylabel="discounted return that came")
    axes.set_title(title, parse_math=False)
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
