"""Reports of hostile conversations and of runs with gaps in their numbers."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from archer.report.console import interval, print_table, render_game
from archer.report.curve import plot_curve
from archer.report.notebook import curves_html, episode_html, facts_html
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


class _Tags(HTMLParser):
    """What a browser would make of some HTML: its elements, their attributes and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


SCRIPT = """</td></table><script>alert(1)</script><img src=x onerror="alert('2')"> &lt;b&gt; \udc80"""


@pytest.mark.parametrize("observation", [SCRIPT, [{"role": SCRIPT, "content": SCRIPT}]])
@pytest.mark.parametrize("rated", [True, False])
def test_a_notebook_shows_hostile_text_as_text(observation: Observation, rated: bool) -> None:
    said = Utterance(np.array([1], np.int32), np.array([0.0], np.float32), SCRIPT)
    turn = Turn(np.array([1], np.int32), said, observation, 1.0, {"success": True})
    episode = Episode((turn, turn), End.TERMINATED, np.array([1], np.int32), seed=0, task=SCRIPT, policy_version=0)
    html = episode_html(episode, [(SCRIPT, 1.0, 2.0)] * 2) if rated else episode._repr_html_()
    html.encode()  # a notebook is saved as UTF-8
    found = _Tags(html)
    assert found.elements == {"table", "caption", "b", "thead", "tbody", "tr", "th", "td"}
    assert found.attributes == {"style"}
    assert "".join(found.text).count("<script>alert(1)</script>") == (5 if isinstance(observation, str) else 7)
    assert ("advantage" in found.text) == rated


def test_a_notebook_shows_what_was_said_and_what_it_was_worth() -> None:
    said = [Utterance(np.array([1], np.int32), np.array([0.0], np.float32), text) for text in ("left", "right")]
    turns = tuple(Turn(np.array([1], np.int32), one, "Where?", -1.0, {"success": False}) for one in said)
    episode = Episode(turns, End.TURN_LIMIT, np.array([1], np.int32), seed=7, task="maze", policy_version=0)
    text = _Tags(episode_html(episode, [("left", -1.0, -1.5), ("right", -2.0, -1.25)])).text
    assert text[:2] == ["maze, seed 7: not won, return -2 after 2 turns", " (turn_limit)"]
    assert text[-14:] == [
        "1", "Where?", "left", "-1", "-1.00", "-1.50", "+0.50",
        "2", "Where?", "right", "-1", "-2.00", "-1.25", "-0.75",
    ]  # fmt: skip
    assert episode_html(episode, [("left", -1.0, -1.5), ("right", -2.0, -1.25)]).count("#2a9d63") == 1


def test_named_values_and_curves_in_a_notebook_are_text() -> None:
    found = _Tags(facts_html({SCRIPT: SCRIPT, "return": 1.234}) + curves_html({SCRIPT: [None, 1.0, 2.0]}))
    assert found.elements == {"table", "tr", "th", "td"} and "1.23" in found.text and "▁█" in found.text


def test_records_load_neither_torch_nor_reports_until_they_are_looked_at() -> None:
    code = "import sys, archer.types; print(any(n.startswith(('torch', 'rich', 'archer.report')) for n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
