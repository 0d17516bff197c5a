"""Tables and conversations for the terminal. What models and environments wrote is untrusted and escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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


def show(title: str, content: Mapping[str, Any], *, as_json: bool) -> None:
    """Named values, as a table or as one JSON object."""
    if as_json:
        print(json.dumps(content))
        return
    rows = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in content.items()}
    print_table(Console(), title, rows)


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
