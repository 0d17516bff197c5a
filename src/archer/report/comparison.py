"""A comparison of methods as files: a picture of their curves, a CSV of every run, and the tables as JSON."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from archer.comparison.compare import Comparison
from archer.report.comparison_tables import as_json, axis_name
from archer.storage.files import replacing, write_json

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Six of Okabe and Ito's colours, which the colour-blind tell apart; yellow is too pale for a line on white."""
STYLES = ("-", "-.")
"""A second style makes twelve lines of six colours; dashes are for what is constant."""

COLUMNS = ("method", "seed", "iteration", "games", "turns", "tokens", "seconds", "return", "smoothed")


def write_comparison(found: Comparison, folder: Path) -> None:
    """Write ``compare.png``, ``compare.csv`` and ``compare.json``; ValueError for more methods than lines."""
    folder.mkdir(parents=True, exist_ok=True)
    plot_comparison(found, folder / "compare.png")
    write_csv(found, folder / "compare.csv")
    write_json(folder / "compare.json", as_json(found))


def plot_comparison(found: Comparison, path: Path) -> None:
    """Interquartile mean of every method with its 95 % interval, between where it began and the best known return."""
    if len(found.methods) > len(COLOURS) * len(STYLES):
        raise ValueError(
            f"{len(found.methods)} methods are too many for one picture, which can tell {len(COLOURS) * len(STYLES)} "
            "apart: compare fewer"
        )
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    starts = [f"{method.start.value:.2f}" for method in found.methods]
    lines, names = [], []
    for number, method in enumerate(found.methods):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS)]
        amounts, middle, ends = method.curve(found.axis)
        if ends is not None:
            axes.fill_between(amounts, *ends, color=colour, alpha=0.18, linewidth=0)
        lines += axes.plot(amounts, middle, color=colour, linestyle=style, linewidth=1.8)
        seeds = len(method.repeats)
        choice = f", best of {method.best_of}" if method.best_of else ""
        names.append(f"{method.label} ({seeds} seed{'s' if seeds > 1 else ''}{choice})")
        if len(set(starts)) > 1:
            axes.axhline(method.start.value, color=colour, linestyle="--", linewidth=1, alpha=0.6)
    if len(set(starts)) == 1:
        lines.append(axes.axhline(found.methods[0].start.value, color="0.45", linestyle="--", linewidth=1))
        names.append(f"before the first game {starts[0]}")
    else:
        lines += axes.plot([], [], color="0.45", linestyle="--", linewidth=1)
        names.append("before the first game, of each")
    if found.reference is not None:
        lines.append(axes.axhline(found.reference, color="black", linestyle=":", linewidth=1.2))
        names.append(f"best known {found.reference:.2f}")
    axes.set_xlabel(axis_name(found.axis, count_demonstrations=found.count_demonstrations))
    smoothed = f"\n(centred mean of {found.smooth} iterations)" if found.smooth > 1 else ""
    axes.set_ylabel(f"return{smoothed}")
    axes.set_title(f"{found.task}: interquartile mean over seeds, 95 % bootstrap interval", parse_math=False)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(lines, ["method"] * len(lines), loc="outside lower center", ncols=2, frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)  # a setting may have dollar signs or begin with a line, which legends take amiss
        text.set_text(name)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def write_csv(found: Comparison, path: Path) -> None:
    """One row per point of every run's curve; ``games`` without demonstrations, whatever the comparison counts."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for method in found.methods:
            for repeat in method.repeats:
                run = repeat.run
                games = run.games_before + run.games
                columns = (games, run.turns, run.tokens, run.seconds, run.returns, repeat.smoothed)
                rows = zip(run.iterations.tolist(), *(column.tolist() for column in columns), strict=True)
                writer.writerows([method.label, repeat.seed, *row] for row in rows)
