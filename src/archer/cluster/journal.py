"""The journal: what happened, one JSON line each, on the disk before anybody is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from archer.storage.files import write_text


class Journal:
    """Lines that were appended are there after any crash; a line that a crash cut off was never promised to anybody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        whole, _, cut = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
        self.events: list[dict[str, Any]] = []
        """All that happened, oldest first."""
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self.events.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        if cut:
            os.truncate(path, len(whole) + 1 if whole else 0)

    def append(self, event: dict[str, Any]) -> None:
        """Write an event down."""
        with self._path.open("ab") as file:
            file.write(json.dumps(event).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.events.append(event)

    def rewrite(self, events: list[dict[str, Any]]) -> None:
        """Put ``events`` in the place of all, at once."""
        write_text(self._path, "".join(json.dumps(event) + "\n" for event in events))
        self.events = events
