"""Reports of hostile conversations and of runs with gaps in their numbers."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from archer.report.console import interval, print_table, render_game
from archer.report.curve import plot_curve
from archer.types import End, Episode, Observation, Turn, Utterance

HOSTILE = "[red]x[/red][/] \x1b[2J\x1b]0;owned\x07 \r\x08 \u202e \udc80 line\nbreak"


def _shown(renderable: Any) -> str:
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system=None, width=200).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("observation", [HOSTILE, [{"role": HOSTILE, "content": HOSTILE}]])
def test_a_conversation_cannot_touch_the_terminal(observation: Observation) -> None:
    said = Utterance(np.array([1], np.int32), np.array([0.0], np.float32), HOSTILE)
    turn = Turn(np.array([1], np.int32), said, observation, -1.0, {"success": False})
    shown = _shown(render_game(Episode((turn,), End.TERMINATED, np.array([1, 1], np.int32), 0, "t", 0), "[b]title"))
    # Rich writes escapes of its own for bold and dim; none of the ones that move, clear or rename may be among them.
    assert not any(bad in shown for bad in ("\x1b[2J", "\x1b]", "\x07", "\r", "\x08", "\u202e"))
    shown.encode()
    assert "[red]x[/red][/]" in shown and "\\x1b[2J" in shown and "line\\nbreak" in shown
    assert "[b]title: return -1, terminated" in shown and "not won" in shown
    assert len(shown.splitlines()) == 4


def test_a_table_shows_names_as_they_are() -> None:
    out = io.StringIO()
    print_table(Console(file=out, width=80), "Result", {"[red]name": "\x1b[31mvalue"})
    assert "[red]name" in out.getvalue() and "\\x1b[31mvalue" in out.getvalue()


def test_intervals_in_words() -> None:
    assert interval(-12.25, 0.5) == "-12.25 ± 0.50"
    assert interval(1.0, None) == interval(1.0, math.inf) == "1.00 (no interval)"


ROWS: list[dict[str, Any]] = [
    {"iteration": 0, "games": 0, "warmup": 1, "eval/return_mean": -18.0, "eval/return_ci95": None},
    {"iteration": 1, "games": 64, "warmup": 1, "rollout/return_mean": -18.2},
    {"iteration": 2, "games": 128, "warmup": 0, "rollout/return_mean": None},
    {
        "iteration": 3, "games": 192, "warmup": 0, "rollout/return_mean": -15.0,
        "eval/return_mean": -14.0, "eval/return_ci95": 0.4,
    },
]  # fmt: skip


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS], ids=["nothing", "the start", "a run"])
@pytest.mark.parametrize("reference", [None, -9.5])
def test_a_curve_is_drawn_from_whatever_there_is(
    tmp_path: Path, rows: list[dict[str, Any]], reference: float | None
) -> None:
    path = tmp_path / "curve.png"
    plot_curve(rows, path, start_return=-18.0, reference_return=reference, title="a $x_{ task$")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (960, 576)
    assert list(tmp_path.iterdir()) == [path]
