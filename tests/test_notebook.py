"""The quickstart notebook runs from its first cell to its last, in small."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "quickstart.ipynb"
SMALL = "demonstrations, iterations, games, updates, measured = 64, 1, 4, 1, 4"
"""In place of the cell that is tagged ``parameters``."""


def test_the_quickstart_runs_and_shows_what_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "one cell holds the sizes"
    names = {line.split(" = ")[0] for line in tagged[0].source.splitlines()}
    assert names == set(SMALL.partition(" = ")[0].split(", ")), "the test sets what the cell sets"
    tagged[0].source = SMALL
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    told = "".join(output.get("text", "") for output in shown)
    assert " -> " in told and "advantage" in told and "return" in told
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds, "the run shows itself as a table, and its curve as a picture"
    pages = [output["data"]["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any("<caption" in page and "advantage" in page for page in pages), "games show what the critic thought"
