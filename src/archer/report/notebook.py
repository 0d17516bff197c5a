"""Runs and conversations as HTML for notebooks: all of it escaped, styles within, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from archer.report.console import brief, sparkline
from archer.types import Episode, Observation, observation_text

Ratings = Sequence[tuple[str, float, float]]
"""(utterance, Q, V) of every turn."""

_GOOD, _BAD, _PLAIN = "#2a9d63", "#d1493f", "transparent"
_TEXT = "padding:.15em .6em;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;max-width:32em"
_NUMBER = "padding:.15em .6em;text-align:right;font-variant-numeric:tabular-nums"


def facts_html(facts: Mapping[str, object]) -> str:
    """Named values as a table."""
    left = 'style="padding:.15em .6em;text-align:left"'
    rows = (
        f"<tr><th {left}>{_text(name)}</th><td {left}>{_text(_told(value))}</td></tr>" for name, value in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def curves_html(curves: Mapping[str, Sequence[float | None]]) -> str:
    """Each curve in one line, with its first and its last value."""
    rows: list[str] = []
    for name, values in curves.items():
        known = [value for value in values if value is not None]
        cells = f'<td style="{_NUMBER}">{brief(known[0])}</td><td style="{_NUMBER}">{brief(known[-1])}</td>'
        line = f'<td style="text-align:left;font-family:monospace">{sparkline(values)}</td>'
        rows.append(f'<tr><th style="{_TEXT}">{_text(name)}</th>{cells}{line}</tr>')
    return f"<table>{''.join(rows)}</table>"


def episode_html(episode: Episode, ratings: Ratings = ()) -> str:
    """A conversation as a table: what was heard, said and rewarded; with ``ratings``, Q, V and advantage too, and a
    green edge where saying that was better than the average, a red one where it was worse."""
    outcome = {None: "", True: "won, ", False: "not won, "}[episode.success]
    title = f"{episode.task}, seed {episode.seed}: {outcome}return {episode.return_:g} after {_turns(len(episode))}"
    names = ["", "heard", "said", "reward", *(("Q", "V", "advantage") if ratings else ())]
    head = "".join(f'<th style="{_NUMBER if place > 2 else _TEXT}">{name}</th>' for place, name in enumerate(names))
    rows = [
        _row(number, turn.observation, turn.utterance.text, turn.reward, ratings[number - 1][1:] if ratings else None)
        for number, turn in enumerate(episode.turns, start=1)
    ]
    caption = f'<caption style="text-align:left"><b>{_text(title)}</b> ({_text(str(episode.end))})</caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(number: int, heard: Observation, said: str, reward: float, values: tuple[float, float] | None) -> str:
    edge, numbers = _PLAIN, f'<td style="{_NUMBER}">{reward:g}</td>'
    if values is not None:
        q, v = values
        edge = _GOOD if q > v else _BAD
        numbers += "".join(f'<td style="{_NUMBER}">{value}</td>' for value in (f"{q:.2f}", f"{v:.2f}", f"{q - v:+.2f}"))
    return (
        f'<tr><td style="{_NUMBER};border-left:4px solid {edge}">{number}</td><td style="{_TEXT};opacity:.75">'
        f'{_text(observation_text(heard))}</td><td style="{_TEXT}"><b>{_text(said)}</b></td>{numbers}</tr>'
    )


def _text(text: str) -> str:
    """Text as nothing but text; what is no Unicode, as notebooks are saved in UTF-8, by its code."""
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _told(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _turns(count: int) -> str:
    return "1 turn" if count == 1 else f"{count} turns"
