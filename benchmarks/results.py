"""Keep what `sample_efficiency.py` trained, and write the tables of docs/results.md anew from it.

Each block of the page between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced; what stands around them is
written by people.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from archer.comparison.compare import Comparison, compare
from archer.comparison.curves import find_runs, read_run
from archer.comparison.intervals import estimate
from archer.comparison.methods import Method
from archer.config.layers import to_yaml
from archer.report.comparison_tables import cost_text, estimate_text, ratio_text
from archer.storage.files import write_json, write_text
from archer.storage.runfolder import RunFolder

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
SMOOTH = 5
"""Iterations that the centred mean of a curve is of."""


def online_tables(runs: Sequence[Path], against: str) -> tuple[str, Comparison]:
    """Markdown of what the methods reached and with how many games, and the comparison behind it; without runs of
    ``against``, of what they reached."""
    plain = compare(runs, smooth=SMOOTH, as_played=True)
    if all(method.label != against for method in plain.methods):
        return "\n\n".join([_reached(plain), *(f"* {note}" for note in plain.notes)]), plain
    found = compare(runs, smooth=SMOOTH, levels=levels_of(plain, against), against=against, as_played=True)
    parts = [_reached(found), _games(found), _ratios(found), *(f"* {note}" for note in found.notes)]
    return "\n\n".join(parts), found


def current(kept: Path) -> list[Path]:
    """What is kept of a task's methods as they are now; what an earlier recipe came to has its curves in
    docs/results.json and its tables in docs/results/earlier.md."""
    return sorted(path for path in kept.iterdir() if not path.name.endswith("-before"))


def levels_of(found: Comparison, against: str) -> list[float]:
    """Five levels on the way of ``against``, the last where it is at the end of its budget; closer to one another
    towards that, where most games go."""
    method = next(method for method in found.methods if method.label == against)
    start, end = method.start.value, float(method.curve("games")[1][-1])
    return [round(start + share * (end - start), 1) for share in (0.25, 0.5, 0.75, 0.9, 1)]


COLUMNS = (
    "iteration", "games", "warmup", "rollout/length", "rollout/tokens", "rollout/sampled_tokens", "rollout/return_mean",
    "eval/return_mean", "eval/return_ci95", "time/start_s", "time/iteration_s",
)  # fmt: skip
"""Of a run's metrics, what a comparison reads."""


def kept_folder(name: str) -> Path:
    """A folder beside the scripts, from where they are called: files that are published name no folder of a machine."""
    return Path(os.path.relpath(Path(__file__).parent / name))


def keep(run: Path, kept: Path) -> None:
    """Copy what comparisons read of a finished run to ``kept``, which is there in whole or not at all."""
    folder = RunFolder.open(run)
    part = kept.with_name(f".{kept.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rows = [{key: row[key] for key in COLUMNS if key in row} for row in folder.metrics()]
    write_text(part / folder.metrics_file.name, "".join(json.dumps(row) + "\n" for row in rows))
    config = folder.config()
    if config.start_from is not None:  # of the machine's folders only what says which start
        config = replace(config, start_from="/".join(Path(config.start_from).parts[-2:]))
    write_text(part / folder.config_file.name, to_yaml(config))
    summary = json.loads(folder.summary_file.read_text(encoding="utf-8"))
    write_json(part / folder.summary_file.name, {k: v for k, v in summary.items() if k not in ("run", "curve")})
    write_text(part / "commit", _commit())
    part.rename(kept)


def _commit() -> str:
    """The commit that runs are trained at; what is changed in the package beside it is said, not what is kept."""

    def git(*arguments: str) -> str:
        root = Path(__file__).parent.parent
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    return f"{git('rev-parse', '--short', 'HEAD')}{'-dirty' if git('status', '--porcelain', '--', 'src') else ''}\n"


def write_curves(kept: Sequence[Path], path: Path) -> None:
    """All curves that are kept in these folders, as one JSON file, by the names of the methods' folders; every game is
    counted, demonstrations are not."""
    curves = [
        {
            "task": curve.task,
            "method": run.parent.name + (" as played" if curve.as_played else ""),
            "seed": curve.config.seed,
            "commit": (run / "commit").read_text(encoding="utf-8").strip(),
            "games": [curve.games_before + games for games in (0.0, *curve.games.tolist())],
            "return": [curve.start, *curve.returns.tolist()],
            "best_of": curve.best_of,
            "turns": [0.0, *curve.turns.tolist()],
            "tokens": [0.0, *curve.tokens.tolist()],
            "seconds": [0.0, *curve.seconds.tolist()],
            "final": curve.final,
        }
        for run in find_runs(kept)
        for curve in (read_run(run), read_run(run, as_played=True))
        if curve is not None
    ]
    write_json(path, {"curves": curves})


def offline_table(runs: Path, methods: Sequence[str]) -> str:
    """Markdown of the final evaluations of methods that played nothing."""
    lines = ["| method | seeds | return | each seed |", "|---|---|---|---|"]
    for method in methods:
        returns = [
            json.loads(path.read_text())["return_mean"] for path in sorted(runs.glob(f"{method}/*/summary.json"))
        ]
        if returns:
            each = ", ".join(f"{value:.2f}" for value in returns)
            lines.append(f"| `{method}` | {len(returns)} | {estimate_text(estimate(returns))} | {each} |")
    return "\n".join(lines)


def replace_block(page: Path, name: str, content: str) -> None:
    """Put ``content`` between the marks of a block; ValueError where the page has none of that name."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(
            f"{page} has no block {name!r}: it begins with <!-- begin {name} --> and ends with <!-- end ... -->"
        )
    write_text(page, pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text))


def _reached(found: Comparison) -> str:
    """What each method returned in the end and on the way, and what that took besides games."""
    on_the_way = [cost for cost in found.equal_cost if cost.axis == "games"]
    rows = [
        [
            "method", "seeds", "start", *(f"at {cost.amount:,.0f} games" for cost in on_the_way),
            "end, 1,000 held-out games", "games", "thousand turns", "million tokens", "minutes",
        ],
        ["---"] * (8 + len(on_the_way)),
    ]  # fmt: skip
    for method in sorted(found.methods, key=_end, reverse=True):
        rows.append(
            [
                f"`{method.label}`",
                str(len(method.repeats)),
                f"{method.start.value:.2f}",
                *(estimate_text(cost.returns[method.label]) for cost in on_the_way),
                estimate_text(method.final),
                f"{max(repeat.run.games[-1] for repeat in method.repeats):,.0f}",
                f"{np.mean([repeat.run.turns[-1] for repeat in method.repeats]) / 1e3:.1f}",
                f"{np.mean([repeat.run.tokens[-1] for repeat in method.repeats]) / 1e6:.2f}",
                f"{np.mean([repeat.run.seconds[-1] for repeat in method.repeats]) / 60:.0f}",
            ]
        )
    return table(rows)


def _games(found: Comparison) -> str:
    """Games to each level."""
    rows = [["games to", *(f"{level:g}" for level in found.levels)], ["---"] * (1 + len(found.levels))]
    for method in sorted(found.methods, key=_end, reverse=True):
        rows.append([f"`{method.label}`", *(cost_text(found.levels[level][method.label]) for level in found.levels)])
    return table(rows)


def _ratios(found: Comparison) -> str:
    """How many times as many games ``against`` needs."""
    header = [f"games of `{found.against}` / games of", *(f"{level:g}" for level in found.ratios)]
    rows = [header, ["---"] * len(header)]
    for method in sorted(found.methods, key=_end, reverse=True):
        if method.label != found.against:
            rows.append(
                [f"`{method.label}`", *(ratio_text(found.ratios[level][method.label]) for level in found.ratios)]
            )
    return table(rows)


def _end(method: Method) -> float:
    return -np.inf if method.final is None else method.final.value


def table(rows: Iterable[Sequence[str]]) -> str:
    """Markdown of rows of cells, the second of which is the line below the heads."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
