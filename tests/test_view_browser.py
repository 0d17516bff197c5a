"""The pages in a real browser: what a person does with them, by mouse and by keyboard. Needs Playwright and a Chromium
(`pip install 'archer[browser]'`, Debian's `chromium`)."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archer.files import write_text
from archer.runfolder import RunFolder
from archer.view.export import export
from archer.view.server import create_app
from tests.test_view import HOSTILE, run  # noqa: F401

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that must log no error."""
    wrong: list[str] = []
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append(f"a script of the data ran: {dialog.message}"))
    yield opened
    opened.close()
    assert wrong == []


@pytest.fixture
def address(run: Path) -> Iterator[str]:  # noqa: F811
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, create_app([run, run]), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_curves_grow_while_a_run_trains(page: Any, address: str, run: Path) -> None:  # noqa: F811
    page.goto(address)
    page.wait_for_selector("canvas")
    assert page.locator("section.card").count() == 2  # evaluations and training games; q_loss holds nothing yet
    assert "2 of 20" in page.locator("tbody").first.inner_text()
    file = RunFolder(run).metrics_file
    before = file.read_text()
    row = {"iteration": 3, "games": 30, "rollout/return_mean": -5.0, "critic/q_loss": 1.0}
    write_text(file, before + json.dumps(row) + "\n")
    page.locator("section.card").nth(2).wait_for(timeout=15_000)
    assert "3 of 20" in page.locator("tbody").first.inner_text()
    write_text(file, before)


def test_games_are_filtered_sorted_opened_and_read(page: Any, address: str) -> None:
    page.goto(f"{address}#episodes")
    page.wait_for_selector("text=1–14 of 14")
    page.get_by_label("Text").fill("word 2.")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector("text=1–6 of 6")
    page.get_by_role("button", name="return").click()
    page.wait_for_selector("th[aria-sort=descending] >> text=return")
    assert page.locator("tbody tr").first.inner_text().startswith("0.00")
    page.locator("tbody a").first.press("Enter")  # by keyboard
    page.wait_for_selector(".said")
    assert "word 2.0" in page.locator(".said").inner_text()
    assert "Which?" in page.locator(".heard").inner_text()


def test_what_a_model_wrote_stays_text(page: Any, address: str) -> None:
    page.goto(f"{address}#episodes")
    page.get_by_label("Ended by").select_option("turn_limit")
    page.wait_for_selector("text=1–2 of 2")
    page.locator("tbody a").first.click()
    page.wait_for_selector(".said")
    assert page.locator(".said").inner_text() == HOSTILE
    assert page.locator("main img").count() == 0


def test_an_exported_file_opens_from_disk_and_asks_nobody(page: Any, run: Path, tmp_path: Path) -> None:  # noqa: F811
    export([run], tmp_path / "out.html", 50)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{tmp_path}/out.html")
    page.wait_for_selector("canvas")
    page.get_by_role("link", name="Episodes").click()
    page.wait_for_selector("text=1–14 of 14")
    page.get_by_label("Text").fill("word 1.3")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector("text=1–1 of 1")
    page.locator("tbody a").first.click()
    page.wait_for_selector("text=word 1.3")
    assert all(url.startswith("file://") for url in asked)


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(page: Any, address: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    for place, ready in (("", "canvas"), ("#episodes", "tbody tr"), ("#episode/0/train/1/0", ".said")):
        page.goto(f"{address}{place}")
        page.wait_for_selector(ready)
        found = axe.run(page)
        serious = [v["id"] for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
        assert serious == [], (place, serious)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, place
