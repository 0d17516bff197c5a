"""What a person sees while a run goes on: a live bar in a terminal, plain lines in a pipe or a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

SHOWN = {
    "supervised/loss": "loss",
    "critic_start/q_loss": "Q loss",
    "critic_start/v_loss": "V loss",
    "rollout/return_mean": "return",
    "eval/return_mean": "eval",
    "critic/q_loss": "Q loss",
    "critic/v_loss": "V loss",
    "actor/loss": "actor loss",
    "time/games_per_s": "games/s",
    "time/tokens_per_s": "tokens/s",
}
PLAIN_EVERY_S = 10.0
"""Seconds between plain lines of a stage whose steps are quick."""


class _Bar(Bar):
    """The numbers have a line of their own, so that a narrow terminal squeezes neither bar nor time."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["numbers"], overflow="fold")


class Progress:
    """Writes to standard error, so that standard output stays free for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = sys.stderr.isatty() and not quiet
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._name, self._total, self._done = "", 0, 0
        self._began = self._said = time.monotonic()
        self._first = 0

    def stage(self, name: str, total: int, *, done: int = 0) -> None:
        """A new stage of ``total`` steps begins, ``done`` of them already behind us."""
        self.close()
        self._name, self._total, self._done, self._first = name, total, done, done
        self._began = self._said = time.monotonic()
        if self._live:
            self._bar = _Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(name, total=total, completed=done, numbers="")
            self._bar.start()
        else:
            self.message(f"{name}: {total} steps")

    def advance(self, metrics: Mapping[str, float]) -> None:
        """One step of the stage is done."""
        self._done += 1
        numbers = "  ".join(f"{label} {metrics[key]:.3g}" for key, label in SHOWN.items() if key in metrics)
        if self._bar is not None:
            self._bar.update(self._task, advance=1, numbers=numbers)
            return
        now = time.monotonic()
        if now - self._said >= PLAIN_EVERY_S or self._done == self._total or "eval/return_mean" in metrics:
            self._said = now
            left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
            self.message(f"{self._name} {self._done}/{self._total}  {numbers}  {left:.0f} s left")

    def message(self, text: str) -> None:
        """A line of its own."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """End the live display, leaving its last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
