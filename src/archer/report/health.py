"""A critic's health for the terminal: the verdict in words, then every number with what a healthy one looks like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archer.health.diagnosis import LEAST_CORRELATION, MOST_BIAS, MOST_TWIN_GAP, Diagnosis, Verdict
from archer.health.numbers import Health
from archer.report.console import printable

HEADLINES = {
    Verdict.HEALTHY: ("The critic is healthy.", "bold green"),
    Verdict.NOT_READY: ("The critic is not ready.", "bold yellow"),
    Verdict.COLLAPSED: ("The critic has collapsed.", "bold red"),
    Verdict.UNDECIDED: ("These games cannot tell how the critic is.", "bold yellow"),
}
NAMES = {
    "iteration": "iteration",
    "return_correlation": "correlation of Q with the return",
    "sign_share": "right-sign share of advantages",
    "relative_twin_gap": "twin gap / spread of returns",
}


def render_health(
    title: str, health: Health, diagnosis: Diagnosis, development: Sequence[Mapping[str, float | None]]
) -> RenderableType:
    """Verdict and reasons, the numbers, the TD errors by turn, and how it came about."""
    headline, style = HEADLINES[diagnosis.verdict]
    parts: list[RenderableType] = [Text(printable(title)), Text(headline, style=style)]
    parts += [Text(f"  {printable(reason)}") for reason in diagnosis.reasons]
    if not health.nonfinite:
        parts += [Text(), _numbers(health), Text(), _td_errors(health)]
    parts += [Text(), _development(development)]
    return Group(*parts)


def _numbers(health: Health) -> Table:
    table = Table(title=f"On {health.games} games with {health.turns} turns", title_justify="left")
    table.add_column("number")
    table.add_column("value", justify="right")
    table.add_column("healthy")
    for name, value, healthy in health_numbers(health):
        table.add_row(name, value, healthy)
    return table


def health_numbers(health: Health) -> Iterator[tuple[str, str, str]]:
    """Every number by name, as text, and what a healthy one looks like."""
    yield (
        "right-sign share of advantages",
        f"{_number(health.sign_share)}{_around(health.sign_share_ci95)}",
        "surely above 0.5, which is coin flipping; luck keeps it far from 1",
    )
    yield (
        "correlation of advantage and return",
        f"{_number(health.advantage_correlation)}{_around(health.advantage_correlation_ci95)}",
        "surely above 0; then the share may be anything",
    )
    yield (
        "correlation of Q with the return",
        _number(health.correlation),
        f"above {LEAST_CORRELATION:g}; 1 only where nothing is left to chance",
    )
    yield "explained variance", _number(health.explained_variance), "above 0, which a constant reaches; at most 1"
    yield "slope of the return on Q", _number(health.slope), "near 1; below it Q exaggerates, above it plays down"
    yield (
        "bias, mean of Q - return",
        _number(health.bias),
        f"near 0; within ± {_number(_times(MOST_BIAS, health.return_std))}",
    )
    yield (
        "twin gap, mean distance of both Q",
        _number(health.twin_gap),
        f"small; below {_number(_times(MOST_TWIN_GAP, health.return_std))}",
    )
    yield "spread of returns (std)", _number(health.return_std), "not 0"
    yield "spread of Q (std)", _number(health.q_std), "not near 0, not above that of the returns"
    yield "spread of advantages (std)", _number(health.advantage_std), "not near 0, below that of Q"


def _td_errors(health: Health) -> Table:
    table = Table(title="TD error by turn: mean near 0, root mean square steady", title_justify="left")
    for name in ("turn", "games", "mean", "rms"):
        table.add_column(name, justify="right")
    for error in health.td_errors:
        table.add_row(str(error.turn), str(error.games), f"{error.mean:+.2f}", f"{error.rms:.2f}")
    return table


def _development(rows: Sequence[Mapping[str, float | None]]) -> RenderableType:
    if not rows:
        return Text("Training logged no health of the critic.", style="dim")
    table = Table(title="In training, on games before the critic learned from them", title_justify="left")
    for key in rows[0]:
        table.add_column(NAMES[key], justify="right")
    for row in rows:
        table.add_row(*[str(value) if key == "iteration" else _number(value) for key, value in row.items()])
    return table


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _around(half_width: float | None) -> str:
    """An interval's half-width behind its number."""
    return "" if half_width is None else f" ± {half_width:.2f}"
