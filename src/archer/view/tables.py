"""The games under way in the browser: kept by an id, until newer ones take their room. No torch before the first."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from archer.view.data import RunView

if TYPE_CHECKING:
    from archer.view.judging import Judge
    from archer.view.table import Table

MOST = 16
"""Games kept."""
CANDIDATES = 32
"""Most utterances drawn at a state."""


class Tables:
    """All games under way in the browser."""

    def __init__(self) -> None:
        self._tables: OrderedDict[str, tuple[str, Judge, Table]] = OrderedDict()
        self._lock = Lock()

    def begin(self, run: str, view: RunView, wishes: Mapping[str, Any]) -> dict[str, Any]:
        """A new game of a run's newest checkpoint; LookupError while it has none."""
        from archer.view.table import Table

        judge = view.judge()
        if judge is None:
            raise LookupError("this run has no checkpoint yet, and so nobody to play with")
        with judge.lock:
            table = Table(judge, wishes)
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._tables[name] = run, judge, table
            left = [self._tables.popitem(last=False)[1] for _ in range(len(self._tables) - MOST)]
        for _, other, old in left:
            with other.lock:
                old.close()
        return self.state(name)

    def state(self, name: str, wishes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A game by its id, after a move where there are ``wishes``; LookupError where it is no more."""
        with self._lock:
            if name not in self._tables:
                raise LookupError("this game is not kept any more: begin another")
            self._tables.move_to_end(name)
            run, judge, table = self._tables[name]
        with judge.lock:  # while an environment thinks, too: this is one person's page
            if wishes is not None:
                table.move(wishes)
            return {"id": name, "run": run} | table.state()


def read(wishes: Mapping[str, Any], name: str, kind: type, otherwise: Any) -> Any:
    """A value of what a page sent; ValueError where it is of another kind (to JSON, true is no number)."""
    value = wishes.get(name, otherwise)
    if type(value) is not kind:
        raise ValueError(f"{name} must be of type {kind.__name__}")
    return value
