"""The journal: what happened, one JSON line each, on the disk before anybody is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archer.storage.files import append_line, read_lines, write_lines


class Journal:
    """Lines that were appended are there after any crash; a line that a crash cut off was never promised to anybody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.events: list[dict[str, Any]] = read_lines(path)
        """All that happened, oldest first."""
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            self.rewrite(self.events)

    def append(self, event: dict[str, Any]) -> None:
        """Write an event down."""
        append_line(self._path, event)
        self.events.append(event)

    def rewrite(self, events: list[dict[str, Any]]) -> None:
        """Put ``events`` in the place of all, at once."""
        write_lines(self._path, events)
        self.events = events
