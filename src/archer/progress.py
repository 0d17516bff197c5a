"""What a person sees while something long goes on: a live bar in a terminal, plain lines in a pipe or a log file."""

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
    "critic_start/token_v_loss": "V loss",
    "actor_start/loss": "loss",
    "rollout/return_mean": "return",
    "eval/return_mean": "eval",
    "critic/q_loss": "Q loss",
    "critic/v_loss": "V loss",
    "critic/token_v_loss": "V loss",
    "actor/loss": "actor loss",
    "time/games_per_s": "games/s",
    "time/tokens_per_s": "tokens/s",
}
PLAIN_EVERY_S = 10.0
"""Seconds between plain lines of a stage whose steps are quick."""
WORTH_TELLING_S = 1.0
"""Seconds from which on a plain line says how long a stage without numbers took."""


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

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stage(self, name: str, total: int, *, done: int = 0, unit: str = "steps") -> None:
        """A new stage of ``total`` steps, or what else ``unit`` names, begins, ``done`` of them already behind us."""
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
            self.message(f"{name}: {total} {unit}")

    def advance(self, metrics: Mapping[str, float]) -> None:
        """One step of the stage is done, with these numbers."""
        numbers = "  ".join(f"{label} {metrics[key]:.3g}" for key, label in SHOWN.items() if key in metrics)
        self._go_on(1, numbers, tell="eval/return_mean" in metrics)

    def count(self, steps: int) -> None:
        """So many steps of the stage are done."""
        if steps:
            self._go_on(steps, "", tell=False)

    def _go_on(self, steps: int, numbers: str, *, tell: bool) -> None:
        self._done += steps
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, numbers=numbers)
            return
        now = time.monotonic()
        took = now - self._began
        over = self._done == self._total and bool(numbers or took >= WORTH_TELLING_S)
        if now - self._said >= PLAIN_EVERY_S or over or tell:
            self._said = now
            left = took / (self._done - self._first) * (self._total - self._done)
            told = f"{left:.0f} s left" if self._done < self._total else f"in {took:.0f} s"
            self.message("  ".join(filter(None, (f"{self._name} {self._done}/{self._total}", numbers, told))))

    def message(self, text: str) -> None:
        """A line of its own."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """End the live display, leaving its last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
