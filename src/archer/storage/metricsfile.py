"""The file ``metrics.jsonl``: reading it, and taking back what came later than a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from archer.storage.files import read_lines, write_lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every line of a ``metrics.jsonl``; a last line cut off by a kill is left out."""
    rows = read_lines(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or "iteration" not in row:
            raise ValueError(f"{path}, line {number}: not metrics: an object with an iteration is needed")
    return rows


def truncate_metrics(path: Path, iteration: int, measured: int = sys.maxsize) -> None:
    """Forget what was logged after ``iteration``, and before the first game all but the first ``measured`` lines."""
    rows = read_metrics(path)
    before = [row for row in rows if row["iteration"] == 0][:measured]
    write_lines(path, [*before, *(row for row in rows if 0 < row["iteration"] <= iteration)])
