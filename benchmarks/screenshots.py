"""Pictures of every page of `archer view` on runs that are given, light and dark, on a wide and on a narrow window.

    python benchmarks/screenshots.py runs/a runs/b --out shots [--whole]
    python benchmarks/screenshots.py runs/a runs/b --pictures docs/pictures

The second makes the few that the documentation shows anew.

Needs a Chromium on the path and the extras `view` and `browser`. The first run needs a checkpoint with a critic: its
games are judged, played and drawn from.
"""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import tyro
from playwright.sync_api import Page, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from archer.view.server import create_app

WINDOWS = {"wide": (1280, 900), "narrow": (390, 844)}
SCHEMES: tuple[Any, ...] = ("light", "dark")
SHOWN = ("overview", "beside", "critic", "play")
"""In the documentation."""
SPEAK = "Let the agent speak"
LONG = 240_000
"""Milliseconds that the first look at a critic may take: torch and a checkpoint are loaded for it."""


@dataclass(frozen=True)
class Shot:
    """A page, and how to get it to what is to be seen."""

    name: str
    place: str
    """Behind the # of its address."""
    ready: str
    """What is there once it is drawn."""
    press: tuple[tuple[str, str], ...] = ()
    """Buttons to be pressed first, and what is there when each has done its work."""


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("shots"),
    whole: bool = False,
    pictures: Path | None = None,
) -> None:
    """Take all pictures.

    out: folder for them. whole: the page to its end, not what a window shows of it. pictures: folder for those of the
        documentation, which are then taken instead.
    """
    if not runs:
        raise SystemExit("name the runs to look at")
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        raise SystemExit("there is no Chromium on the path")
    with served(runs) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        shots = choose(address, len(runs))
        if pictures is not None:
            shots = [shot for shot in shots if shot.name in SHOWN]
        ways: list[tuple[Any, str]] = [("light", "wide")] if pictures is not None else list(product(SCHEMES, WINDOWS))
        for scheme, window in ways:
            width, height = WINDOWS[window]
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_default_timeout(LONG)
            for shot in shots:
                take(page, address, shot)
                path = out / f"{shot.name}-{scheme}-{window}.png"
                if pictures is not None:
                    path = pictures / f"view-{shot.name}.png"
                page.screenshot(path=path, full_page=whole)  # makes the folder, too
            page.close()
        browser.close()


def choose(address: str, runs: int) -> list[Shot]:
    """The pages of the first run, with a long game of its last evaluation and the same task before training."""
    listed = f"{address}api/runs/0/episodes?source=final&sort=length&limit=1"
    game = json.load(urllib.request.urlopen(listed))["rows"][0]
    last = f"0/final/{game['iteration']}/{game['row']}"
    query = f"{address}api/runs/0/episodes?source=start&seed={game['seed']}"
    first = json.load(urllib.request.urlopen(query))["rows"][0]
    return [
        Shot("overview", "", f"tbody tr:nth-child({runs}) .badge"),
        Shot("episodes", "episodes", "tbody tr"),
        Shot("episode", f"episode/{last}", ".strip"),
        Shot("siblings", f"episode/{last}", ".candidate", (("What else could it have said?", ".candidate"),)),
        Shot("beside", f"episode/0/start/{first['iteration']}/{first['row']}+{last}", ".strip"),
        Shot("critic", "critic/0", "#histogram canvas"),
        Shot("play", "play", ".candidate", (("Begin", ".candidate"), *((SPEAK, f"#turn-{n}") for n in (1, 2)))),
    ]


def take(page: Page, address: str, shot: Shot) -> None:
    """Bring a page to where its picture is taken."""
    page.goto("about:blank")  # the same address with another # would be no new page
    page.goto(f"{address}#{shot.place}")
    for button, there in shot.press:
        page.get_by_role("button", name=button).first.click()
        page.wait_for_selector(there)
    page.wait_for_selector(shot.ready)
    page.wait_for_timeout(300)


@contextmanager
def served(runs: tuple[Path, ...]) -> Iterator[str]:
    """The address of a server that shows the runs."""
    server = make_server("127.0.0.1", 0, create_app(runs), threaded=True, request_handler=_Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class _Silent(WSGIRequestHandler):
    """Writes no log."""

    def log(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    tyro.cli(main)
