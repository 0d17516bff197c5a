"""What a model behind an environment is: prompts in, texts out, many at once; and what can be put around one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


class OracleError(RuntimeError):
    """A model gave no usable reply; the message says which and why."""


@runtime_checkable
class Respondent(Protocol):
    """Replies to prompts. Ready-made: ``ChatEndpoint``, ``Seq2SeqRespondent``, ``CausalRespondent``."""

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One reply per prompt, in their order."""


class Cached:
    """Asks another respondent only what it has not been asked before; replies are kept in a SQLite file.

    Processes and runs can share the file. Only for respondents whose replies do not vary.
    inner: who is asked. path: the file. name: whose replies they are; different models need different names.
    """

    def __init__(self, inner: Respondent, path: str | Path, name: str) -> None:
        self._inner, self._path, self._name = inner, Path(path), name
        self.hits = 0
        """Replies that were found."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as table:
            table.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, prompt TEXT, reply TEXT)")

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One reply per prompt."""
        keys = [sha256(f"{self._name}\0{prompt}".encode()).hexdigest() for prompt in prompts]
        with self._open() as table:
            found = {
                key: row[0]
                for key in set(keys)
                if (row := table.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone())
            }
        self.hits += sum(key in found for key in keys)
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        if missing:
            replies = self._inner.complete(list(missing.values()))
            with self._open() as table:
                rows = [(*item, reply) for item, reply in zip(missing.items(), replies, strict=True)]
                table.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", rows)
            found |= dict(zip(missing, replies, strict=True))
        return [found[key] for key in keys]

    def _open(self) -> _Connection:
        return _Connection(self._path)


class _Connection:
    """A connection for one transaction: threads and processes have none in common."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=30)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()


class Together:
    """Puts prompts that several threads ask at about the same time to another respondent in one batch.

    With ``rollout.workers`` games ask one prompt each; a model answers many as fast as one.
    inner: who is asked. wait: seconds that a prompt waits for company. most: prompts of a batch.
    """

    def __init__(self, inner: Respondent, wait: float = 0.01, most: int = 256) -> None:
        if wait < 0 or most < 1:
            raise ValueError(f"wait must not be negative and most at least 1, got {wait} and {most}")
        self._inner, self._wait, self._most = inner, wait, most
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._open: list[tuple[str, Future[str]]] = []
        self._led = False

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One reply per prompt."""
        asked = [(prompt, Future[str]()) for prompt in prompts]
        with self._changed:
            self._open += asked
            leads, self._led = not self._led, True
            self._changed.notify_all()
        if leads:  # the first of a batch waits for the others, asks for all, and hands out what comes
            self._lead()
        return [future.result() for _, future in asked]

    def _lead(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._open) >= self._most, timeout=self._wait)
                batch, self._open = self._open[: self._most], self._open[self._most :]
                if not batch:
                    self._led = False
                    return
            try:
                replies = self._inner.complete([prompt for prompt, _ in batch])
                for (_, future), reply in zip(batch, replies, strict=True):
                    future.set_result(reply)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def __getstate__(self) -> dict[str, Any]:
        return {"_inner": self._inner, "_wait": self._wait, "_most": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()
