"""A comparison of methods in numbers: tables for the terminal, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from archer.comparison.compare import Comparison, EqualCost, Ratio, ToLevel
from archer.comparison.curves import AXES, Axis
from archer.comparison.intervals import Bounds, Estimate
from archer.report.console import print_grid, print_table

UNITS: Mapping[Axis, str] = {"games": "games", "turns": "turns", "tokens": "tokens", "seconds": "s"}


def axis_name(axis: Axis, *, count_demonstrations: bool) -> str:
    """What is counted on an axis, in words."""
    games = "games, warm-up and demonstrations included" if count_demonstrations else "games, warm-up included"
    names: Mapping[Axis, str] = {
        "games": games,
        "turns": "turns of training games, warm-up included: what the environment was asked",
        "tokens": "tokens said in training games, warm-up included",
        "seconds": "seconds of wall-clock, warm-up included, supervised start left out",
    }
    return names[axis]


def print_comparison(console: Console, found: Comparison) -> None:
    """Everything that was found, conventions first."""
    print_table(console, f"\n{found.task}", _conventions(found))
    print_grid(
        console,
        "Methods",
        ["method", "seeds", "before the first game", "final evaluation"],
        [
            [
                method.label,
                _seeds(len(method.repeats), method.final),
                estimate_text(method.start),
                estimate_text(method.final),
            ]
            for method in found.methods
        ],
    )
    for axis in AXES:
        _print_equal_cost(console, found, axis)
    if not found.levels:
        console.print("\nNo curve rose above where it began: name returns to reach with --levels.")
        return
    header = ["method", *(f"{level:g}" for level in found.levels)]
    print_grid(
        console,
        f"{found.axis.capitalize()} to a return: median over seeds [95 % interval] (seeds that reached it)",
        header,
        [[method.label, *(cost_text(row[method.label]) for row in found.levels.values())] for method in found.methods],
    )
    if found.against is not None:
        others = [method.label for method in found.methods if method.label != found.against]
        print_grid(
            console,
            f"How many times the {found.axis} of each method {found.against} needed to a return [95 % interval]",
            header,
            [[label, *(ratio_text(row[label]) for row in found.ratios.values())] for label in others],
        )


def _conventions(found: Comparison) -> dict[str, str]:
    smoothed = f", centred mean of {found.smooth} iterations" if found.smooth > 1 else ""
    rows: dict[str, str] = {
        "return": "mean of each iteration's training games, or of its evaluation where the critic chooses in these"
        f"{smoothed}; interquartile mean over seeds",
        "intervals": "95 %, percentile bootstrap over seeds",
    }
    for axis in AXES:
        rows[axis] = axis_name(axis, count_demonstrations=found.count_demonstrations)
    if found.reference is not None:
        rows["best known return"] = f"{found.reference:.2f}"
    return rows | {f"note {number}": note for number, note in enumerate(found.notes, start=1)}


def _print_equal_cost(console: Console, found: Comparison, axis: Axis) -> None:
    columns = [equal for equal in found.equal_cost if equal.axis == axis]
    print_grid(
        console,
        f"Return at equal {axis if axis != 'seconds' else 'wall-clock'} [95 % interval]",
        ["method", *(f"{equal.amount:,.0f} {UNITS[axis]}" for equal in columns)],
        [
            [method.label, *(estimate_text(equal.returns[method.label]) for equal in columns)]
            for method in found.methods
        ],
    )


def _seeds(runs: int, final: Estimate | None) -> str:
    finished = 0 if final is None else final.seeds
    return str(runs) if finished == runs else f"{runs} ({finished} finished)"


def estimate_text(found: Estimate | None) -> str:
    """An interquartile mean with its interval."""
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}…{found.high:.2f}]"


def _amount(found: Bounds) -> str:
    return f"{found.low:,.0f}" if found.known else f">{found.low:,.0f}"


def cost_text(found: ToLevel) -> str:
    """What it took to reach a level, with its interval and how many seeds got there."""
    if not found.reached:
        return f"never (0/{found.seeds})"
    ends = "" if found.interval is None else f" [{'…'.join(map(_amount, found.interval))}]"
    return f"{_amount(found.median)}{ends} ({found.reached}/{found.seeds})"


def ratio_text(found: Ratio) -> str:
    """A ratio of costs with its interval."""
    if found.never:
        return "never"
    if found.value.known:
        shown = f"{found.value.low:.2f}"
    elif math.isinf(found.value.high) and found.value.low > 0:
        shown = f">{found.value.low:.2f}"
    elif math.isfinite(found.value.high):
        shown = f"<{found.value.high:.2f}"
    else:
        return "not known"
    if found.interval is None:
        return shown
    low, high = (f"{end:.2f}" if math.isfinite(end) else "∞" for end in found.interval)
    return f"{shown} [{low}…{high}]"


def as_json(found: Comparison) -> dict[str, Any]:
    """Everything in the tables; what nothing bounds is null. docs/comparing.md explains the names."""
    return {
        "task": found.task,
        "axis": found.axis,
        "smooth": found.smooth,
        "count_demonstrations": found.count_demonstrations,
        "reference_return": found.reference,
        "methods": {
            method.label: {
                "best_of": method.best_of,
                "seeds": [repeat.seed for repeat in method.repeats],
                "runs": [str(repeat.run.path) for repeat in method.repeats],
                "iterations": [repeat.run.done for repeat in method.repeats],
                "demonstrations": [repeat.run.demonstrations for repeat in method.repeats],
                "start_return": _estimate_json(method.start),
                "final_return": _estimate_json(method.final),
            }
            for method in found.methods
        },
        "equal_cost": [_equal_json(equal) for equal in found.equal_cost],
        "to_level": [
            {"level": level, "methods": {label: _to_level_json(one) for label, one in row.items()}}
            for level, row in found.levels.items()
        ],
        "against": found.against,
        "ratios": [
            {"level": level, "methods": {label: _ratio_json(one) for label, one in row.items()}}
            for level, row in found.ratios.items()
        ],
        "notes": list(found.notes),
    }


def _estimate_json(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    ends = None if found.low is None else [found.low, found.high]
    return {"iqm": found.value, "ci95": ends, "seeds": found.seeds}


def _equal_json(found: EqualCost) -> dict[str, Any]:
    returns = {label: _estimate_json(one) for label, one in found.returns.items()}
    return {"axis": found.axis, "amount": found.amount, "methods": returns}


def _to_level_json(found: ToLevel) -> dict[str, Any]:
    ends = None if found.interval is None else [_finite(end.high) for end in found.interval]
    return {
        "reached": found.reached,
        "seeds": found.seeds,
        "median": _finite(found.median.high),
        "at_least": found.median.low,
        "ci95": ends,
    }


def _ratio_json(found: Ratio) -> dict[str, Any]:
    return {
        "ratio": _finite(found.value.low) if found.value.known else None,
        "at_least": found.value.low,
        "at_most": _finite(found.value.high),
        "ci95": None if found.interval is None else [_finite(end) for end in found.interval],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
