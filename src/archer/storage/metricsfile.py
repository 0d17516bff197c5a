"""The file ``metrics.jsonl``: reading it, and taking back what came later than a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archer.storage.files import write_text


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every line of a ``metrics.jsonl``; a last line cut off by a kill is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict) or "iteration" not in row:
            raise ValueError(f"{path}, line {number}: not metrics: an object with an iteration is needed")
        rows.append(row)
    return rows


def truncate_metrics(path: Path, iteration: int) -> None:
    """Forget what was logged after ``iteration``."""
    rows = [row for row in read_metrics(path) if row["iteration"] <= iteration]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
