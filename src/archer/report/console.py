"""Tables and conversations for the terminal. What models and environments wrote is untrusted and escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from archer.types import Episode, Observation


def printable(text: str) -> str:
    """Text without control characters, which could move the cursor or recolour the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def observation_line(observation: Observation) -> str:
    """An observation on one line."""
    return printable(observation if isinstance(observation, str) else json.dumps(observation, default=dict))


def render_game(episode: Episode, title: str) -> RenderableType:
    """A conversation: the environment dim, the agent indented, and how it ended."""
    lines: list[RenderableType] = [Text(f"{title}: return {episode.return_:g}, {episode.end}", style="bold")]
    for turn in episode.turns:
        lines.append(Text(f"  {observation_line(turn.observation)}", style="dim"))
        lines.append(Text(f"      {printable(turn.utterance.text)}", style="cyan"))
    if episode.success is not None:
        lines.append(
            Text("  won" if episode.success else "  not won", style="bold green" if episode.success else "red")
        )
    return Group(*lines)


def render_scores(
    title: str, observations: Sequence[Observation], rated: Sequence[tuple[str, float, float]]
) -> RenderableType:
    """A conversation with Q, V and advantage of every (utterance, Q, V): green what was better than the average."""
    table = Table(title=Text(printable(title)), title_justify="left")
    for name in ("heard", "said"):
        table.add_column(name, overflow="fold")
    for name in ("Q", "V", "advantage"):
        table.add_column(name, justify="right")
    for observation, (utterance, q, v) in zip(observations, rated, strict=True):
        numbers = Text(f"{q - v:+.2f}", style="green" if q > v else "red")
        table.add_row(
            Text(observation_line(observation), style="dim"),
            Text(printable(utterance)),
            f"{q:.2f}",
            f"{v:.2f}",
            numbers,
        )
    return table


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """A curve in one line of text, from its least value to its greatest; at most ``width`` points, means of equal parts
    of what there is. What is not known is left out."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    parts = min(width, len(known))
    cuts = [round(part * len(known) / parts) for part in range(parts + 1)]
    points = [sum(known[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(points), max(points)
    top = len(BARS) - 1
    return "".join(BARS[round((point - low) / (high - low) * top) if high > low else top // 2] for point in points)


def brief(value: float) -> str:
    """A number in about three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def show(title: str, content: Mapping[str, Any], *, as_json: bool) -> None:
    """Named values, as a table of those that are known or as one JSON object."""
    if as_json:
        print(json.dumps(content))
        return
    known = {name: value for name, value in content.items() if value is not None}
    rows = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in known.items()}
    print_table(Console(), title, rows)


def print_overview(
    console: Console,
    facts: Mapping[str, Any],
    curves: Mapping[str, Sequence[float | None]],
    games: Sequence[tuple[Episode, Sequence[tuple[str, float, float]]]],
) -> None:
    """A run: named values, each curve with its first and last value, and some games, rated where they are."""
    show(str(facts.get("run", "")), {name: value for name, value in facts.items() if name != "run"}, as_json=False)
    table = Table(title="\nfirst, last, and the way between", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    for name, values in curves.items():
        known = [value for value in values if value is not None]
        table.add_row(name, brief(known[0]), brief(known[-1]), Text(sparkline(values), style="cyan"))
    if curves:
        console.print(table)
    for episode, ratings in games:
        title = f"return {episode.return_:g}, {episode.end}"
        console.print()
        if ratings:
            console.print(render_scores(title, [turn.observation for turn in episode.turns], ratings))
        else:
            console.print(render_game(episode, "A game"))


def interval(mean: float, half_width: float | None) -> str:
    """A mean with its 95 % interval; one game alone has none, which a run's files hold as null."""
    if half_width is None or not math.isfinite(half_width):
        return f"{mean:.2f} (no interval)"
    return f"{mean:.2f} ± {half_width:.2f}"


def print_table(console: Console, title: str, rows: Mapping[str, str]) -> None:
    """Two columns: what, and how much."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(Text(printable(name)), Text(printable(value)))
    console.print(table)


def print_grid(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of one row per thing: its name, then what is said of it, one column each."""
    table = Table(title=Text(f"\n{printable(title)}"), title_justify="left")
    for column, name in enumerate(header):
        table.add_column(Text(printable(name)), justify="right" if column else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
