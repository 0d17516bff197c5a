"""The learning curve as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from archer.storage.files import replacing


def plot_curve(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    start_return: float,
    reference_return: float | None,
    title: str,
) -> None:
    """Write ``draw_curve`` to a PNG file."""
    figure = draw_curve(rows, start_return=start_return, reference_return=reference_return, title=title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_curve(
    rows: Sequence[Mapping[str, Any]], *, start_return: float, reference_return: float | None, title: str
) -> Figure:
    """Return against games played, warm-up included: training as a line, evaluations with 95 % intervals."""
    figure = Figure(figsize=(8, 4.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    played = [row for row in rows if "rollout/return_mean" in row]
    measured = [row for row in rows if "eval/return_mean" in row]
    warm = max((row["games"] for row in played if row.get("warmup")), default=0)
    if warm:
        axes.axvspan(0, warm, color="0.93", label="warm-up (critic only)")
    axes.plot(
        [row["games"] for row in played],
        [row["rollout/return_mean"] for row in played],
        color="tab:blue",
        alpha=0.45,
        label="games played for training",
    )
    axes.errorbar(
        [row["games"] for row in measured],
        [row["eval/return_mean"] for row in measured],
        # Null where a single game gave no interval: a point without a bar.
        yerr=[math.nan if row["eval/return_ci95"] is None else row["eval/return_ci95"] for row in measured],
        fmt="o",
        color="tab:blue",
        capsize=3,
        label="evaluation, 95 % interval",
    )
    axes.axhline(start_return, color="tab:gray", linestyle="--", label=f"supervised start {start_return:.1f}")
    if reference_return is not None:
        axes.axhline(reference_return, color="tab:green", linestyle="--", label=f"best possible {reference_return:.1f}")
    axes.set(xlabel="games played, warm-up included", ylabel="return per game")
    axes.set_title(title, parse_math=False)  # a task may have dollar signs in its name
    axes.legend(loc="lower right", frameon=True)
    axes.grid(alpha=0.3)
    return figure
