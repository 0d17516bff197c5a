"""Runs as one HTML file that opens without a server or a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from archer.files import write_text
from archer.view.data import MOST, Query, RunView, differences
from archer.view.server import STATIC


def export(runs: Sequence[Path], path: Path, games: int) -> None:
    """Write the pages with everything that they would ask for: of each run and source the ``games`` newest games."""
    views = {str(number): RunView(run) for number, run in enumerate(runs)}
    overviews = {number: view.overview() for number, view in views.items()}
    listed: dict[str, object] = {}
    opened: dict[str, object] = {}
    for number, view in views.items():
        for source in overviews[number]["sources"]:
            found = view.episodes(Query(source=source, limit=min(MOST, max(1, games))))
            listed[f"{number}/{source}"] = found
            for row in found["rows"][:games]:
                place = f"{source}/{row['iteration']}/{row['row']}"
                opened[f"{number}/{place}"] = view.episode(source, row["iteration"], row["row"])
    data = {
        "runs": {"runs": overviews, "differences": differences([one["config"] for one in overviews.values()])},
        "episodes": listed,
        "episode": opened,
    }
    # Inside a script element only these could end it or begin a comment.
    text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for name in ("uplot.css", "style.css"):
        css = (STATIC / name).read_text(encoding="utf-8")
        page = page.replace(f'<link rel="stylesheet" href="/static/{name}">', f"<style>{css}</style>")
    for name in ("uplot.js", "app.js"):
        script = (STATIC / name).read_text(encoding="utf-8").replace("</script", "<\\/script")
        page = page.replace(f'<script src="/static/{name}" defer></script>', f"<script>{script}</script>")
    held = f'<script type="application/json" id="held">{text}</script>'
    write_text(path, page.replace("<!-- held -->", held))
