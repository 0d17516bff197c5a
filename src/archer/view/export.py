"""Runs as one HTML file that opens without a server or a network: its scripts, styles and data are in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from archer.progress import Progress
from archer.storage.files import write_text
from archer.view.critic import critic_page
from archer.view.data import Query, RunView, differences
from archer.view.server import STATIC

IMPORT = re.compile(r'^import ({[^}]*}) from "\./([a-z]+\.js)";$', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:function|const) (\w+))", re.MULTILINE)


def export(runs: Sequence[Path], path: Path, games: int, progress: Progress | None = None) -> None:
    """Write the pages with everything that they would ask for: of each run and source the ``games`` newest games."""
    progress = progress or Progress(quiet=True)
    views = {str(number): RunView(run) for number, run in enumerate(runs)}
    overviews = {number: view.overview() for number, view in views.items()}
    listed: dict[str, object] = {}
    opened: dict[str, object] = {}
    judged: dict[str, dict[str, Any]] = {}
    for number, view in views.items():
        progress.message(f"judging the critic of {view.folder.path}")
        judged[number] = critic_page(view)
        pointed = [*judged[number].get("best", ()), *judged[number].get("worst", ())] if games else []
        places = [(one["source"], one["iteration"], one["row"]) for one in pointed]
        for source in overviews[number]["sources"]:
            found = view.episodes(Query(source=source, limit=max(1, games)))
            listed[f"{number}/{source}"] = found
            places += [(source, row["iteration"], row["row"]) for row in found["rows"][:games]]
        progress.stage(f"games of {view.folder.path}", len(places), unit="games")
        for source, iteration, row in places:
            opened[f"{number}/{source}/{iteration}/{row}"] = view.episode(source, iteration, row)
            progress.count(1)
    data = {
        "runs": {"runs": overviews, "differences": differences([one["config"] for one in overviews.values()])},
        "episodes": listed,
        "episode": opened,
        "critic": judged,
    }
    # Inside a script element only these could end it or begin a comment.
    text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for name in ("uplot.css", "style.css"):
        css = (STATIC / name).read_text(encoding="utf-8")
        page = page.replace(f'<link rel="stylesheet" href="/static/{name}">', f"<style>{css}</style>")
    plotting = _closed((STATIC / "uplot.js").read_text(encoding="utf-8"))
    page = page.replace('<script src="/static/uplot.js" defer></script>', f"<script>{plotting}</script>")
    pages = _closed("".join(_modules("app.js", set())))
    page = page.replace(
        '<script src="/static/app.js" type="module"></script>', f'<script type="module">{pages}</script>'
    )
    held = f'<script type="application/json" id="held">{text}</script>'
    write_text(path, page.replace("<!-- held -->", held))


def _modules(name: str, told: set[str]) -> Iterator[str]:
    """A module behind those that it imports, each once and as a function's result: opened from disk, a file may import
    no other."""
    if name in told:
        return
    told.add(name)
    text = (STATIC / name).read_text(encoding="utf-8")
    for _, imported in IMPORT.findall(text):
        yield from _modules(imported, told)
    body = EXPORT.sub(r"\1", IMPORT.sub(lambda found: f"const {found[1]} = {_object(found[2])};", text))
    given = ", ".join(exported for _, exported in EXPORT.findall(text))
    yield f"const {_object(name)} = (() => {{\n{body}return {{ {given} }};\n}})();\n"


def _object(name: str) -> str:
    """What holds the exports of a module."""
    return f"module_{name.removesuffix('.js')}"


def _closed(script: str) -> str:
    """A script in which nothing ends its element."""
    return script.replace("</script", "<\\/script")
