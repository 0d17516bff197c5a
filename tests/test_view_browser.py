"""The pages in a real browser: what a person does with them, by mouse and by keyboard. Needs Playwright and a Chromium
(`pip install -e '.[browser]'`, Debian's `chromium`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archer.storage.files import write_text
from archer.storage.runfolder import RunFolder
from archer.view.export import export
from archer.view.server import create_app
from tests.test_view import HOSTILE, run  # noqa: F401

playwright = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).parent.parent
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
    # What the server refuses is told on the page, where tests look for it; Chromium logs it as well.
    assert [text for text in wrong if "status of 400" not in text] == []


@contextmanager
def _served(*runs: Path) -> Iterator[str]:
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, create_app(runs), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def address(run: Path) -> Iterator[str]:  # noqa: F811
    with _served(run, run) as found:
        yield found


@pytest.fixture(scope="module")
def played(trained: Path) -> Iterator[str]:
    """Where a trained run is shown."""
    with _served(trained) as found:
        yield found


def test_curves_grow_while_a_run_trains(page: Any, address: str, run: Path) -> None:  # noqa: F811
    page.goto(address)
    page.wait_for_selector("canvas")
    assert page.locator("section.card").count() == 2  # evaluations and training games; q_loss holds nothing yet
    assert "2 of 30" in page.locator("tbody").first.inner_text()
    file = RunFolder(run).metrics_file
    before = file.read_text()
    row = {"iteration": 3, "games": 30, "rollout/return_mean": -5.0, "critic/q_loss": 1.0}
    write_text(file, before + json.dumps(row) + "\n")
    page.locator("section.card").nth(2).wait_for(timeout=15_000)
    assert "3 of 30" in page.locator("tbody").first.inner_text()
    write_text(file, before)


def test_a_real_training_is_followed_without_loading_the_page_anew(page: Any, tmp_path: Path) -> None:
    settings = [
        "demonstrations.games=60", "rollout.games=8", "rollout.utterance_tokens=8", "critic.updates=1",
        "actor.updates=1", "eval.games=4", "eval.final_games=8", "iterations=500", "threads=1",
        "model.tiny.layers=1", "model.tiny.width=32", "model.tiny.heads=2", "model.tiny.vocabulary=300",
    ]  # fmt: skip
    command = [sys.executable, "-c", "from archer.cli import main; main()", "train", "--env", "tests.worlds:TwoSteps"]
    path = tmp_path / "run"
    training = subprocess.Popen([*command, "--run", str(path), "--json", "--set", *settings], cwd=ROOT)
    try:
        folder, began = RunFolder(path), time.monotonic()
        while not (folder.metrics_file.exists() and len(folder.metrics()) > 3):
            assert training.poll() is None, "the training ended before there was anything to see"
            assert time.monotonic() - began < 300, "the training did not begin"
            time.sleep(0.2)
        with _served(path) as address:
            page.goto(address)
            page.wait_for_selector("canvas")
            page.evaluate("window.kept = 'the same page'")
            games, curve = _progress(page)
            page.wait_for_function(PASSED, arg=games, timeout=60_000)
            assert training.poll() is None, "it was seen while it trained"
            later = _progress(page)
            assert later[0] > games and later[1] != curve, "count and curve grew"
            assert page.evaluate("window.kept") == "the same page"
    finally:
        training.kill()
        training.wait()


PASSED = "games => Number(document.querySelector('td[data-label=games]').textContent) > games"


def _progress(page: Any) -> tuple[int, str]:
    """How many games the page tells of, and the picture of the training games' returns."""
    card = page.locator("section.card", has_text="Return, games to learn from")
    return int(page.locator("td[data-label=games]").inner_text()), card.locator("canvas").evaluate("c => c.toDataURL()")


def test_curves_are_read_by_pointing_at_them(page: Any, address: str) -> None:
    page.goto(address)
    card = page.locator("section.card", has_text="Return, games to learn from")
    card.locator("canvas").wait_for()
    assert card.locator(".readout").inner_text().split() == ["−7", "−7"]  # the newest of both runs
    over = card.locator(".u-over").bounding_box()
    page.mouse.move(over["x"] + over["width"] / 2, over["y"] + 20)  # of games 0 to 20
    assert card.locator(".readout").inner_text().replace("\n", " ") == "−8 −8 at 10 games"
    page.mouse.move(0, 0)
    page.wait_for_function("() => ![...document.querySelectorAll('.readout')].some((p) => /at/.test(p.textContent))")


def test_whoever_waits_is_told_so(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("canvas")
    held: list[Any] = []
    page.route("**/episodes?*", lambda request: held.append(request))
    page.get_by_role("link", name="Episodes").click()
    page.wait_for_selector("#status:text('loading …')")
    assert page.locator("main").get_attribute("aria-busy") == "true"
    while not held:  # it is said before anything is asked
        page.wait_for_timeout(10)
    for request in held:
        request.continue_()
    page.wait_for_selector("text=1–14 of 14")
    assert page.locator("main").get_attribute("aria-busy") is None
    assert page.locator("#status").inner_text() == "14 games"


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


def test_a_task_is_looked_at_before_and_after_training_side_by_side(page: Any, played: str) -> None:
    page.goto(f"{played}#episode/0/final/2/1")
    page.get_by_role("button", name="The same task at another time").press("Enter")
    page.wait_for_selector(".others a")
    told = [text.split(",")[0] for text in page.locator(".others a").all_inner_texts()]
    assert told == ["the supervised start", "what demonstrations taught", "iteration 1", "iteration 2"]
    page.locator(".others a", has_text="iteration 1").click()
    page.wait_for_function("() => document.querySelectorAll('.talk').length === 2")
    left, right = page.locator(".talk").all()
    assert "evaluations in between, iteration 1, seed 3" in left.inner_text()
    assert "the end, iteration 2, seed 3" in right.inner_text()
    assert left.bounding_box()["x"] + left.bounding_box()["width"] <= right.bounding_box()["x"]
    for side in (left, right):
        assert side.locator(".turn").count() == 2 and side.locator(".strip").count() == 1
    right.locator("h2 a").click()
    page.wait_for_function("() => document.querySelectorAll('.talk').length === 1")
    assert "the end, iteration 2, seed 3" in page.locator(".talk").inner_text()


def test_the_strip_leads_to_the_turn_and_tokens_are_read_without_hovering(page: Any, played: str) -> None:
    page.goto(f"{played}#episode/0/final/2/1")
    page.locator(".strip a").nth(1).press("Enter")
    assert page.evaluate("document.activeElement.id") == "turn-2"
    turn = page.locator("#turn-1")
    chances = turn.locator(".token").evaluate_all("all => all.map((one) => one.title)")
    turn.locator("summary", has_text="Tokens").press("Enter")
    shown = turn.locator("details td:nth-child(3)").all_inner_texts()
    assert len(shown) == len(chances) > 0
    assert all(f"log-probability {one}," in told for one, told in zip(shown, chances, strict=True))


def test_what_a_model_wrote_stays_text(page: Any, address: str) -> None:
    page.goto(f"{address}#episodes")
    page.get_by_label("Ended by").select_option("turn_limit")
    page.wait_for_selector("text=1–2 of 2")
    page.locator("tbody a").first.click()
    page.wait_for_selector(".said")
    assert page.locator(".said").inner_text() == HOSTILE
    assert page.locator("main img").count() == 0


def test_the_keyboard_stays_where_it_was(page: Any, address: str) -> None:
    page.goto(f"{address}#episodes")
    sort = page.get_by_role("button", name="return")
    sort.focus()
    for order in ("descending", "ascending"):  # the table is made anew each time
        page.keyboard.press("Enter")
        page.wait_for_selector(f"th[aria-sort={order}] >> text=return")
        assert page.evaluate("document.activeElement.dataset.key") == "sort-return"
    page.get_by_label("Text").fill("word 2")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1–6 of 6")
    page.keyboard.type(".3")  # goes on where it was
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1–1 of 1")
    page.get_by_role("button", name="further").press("Enter")  # there is nothing further, and it keeps the keyboard
    assert page.evaluate("document.activeElement.dataset.key") == "after"


def test_the_overview_has_the_verdict_and_the_critics_page_the_rest(page: Any, played: str) -> None:
    page.goto(played)
    page.locator("tbody .badge").click()
    page.wait_for_selector("#calibration canvas")
    assert page.locator(".verdict .badge").inner_text() == "collapsed"
    assert "the 30 games of the evaluation at the end" in page.locator(".verdict").inner_text()
    assert page.locator("canvas").count() == 3
    page.get_by_label("Judged on games of").select_option("train")
    page.wait_for_selector("text=the 48 newest games of training")
    page.locator("text=/turn . of game/").first.click()
    page.wait_for_selector(".said")


def test_what_else_could_have_been_said_is_drawn_on_request(page: Any, played: str) -> None:
    page.goto(f"{played}#episode/0/final/2/1")
    page.wait_for_selector(".said")
    assert page.locator(".candidate").count() == 0
    page.get_by_role("button", name="What else could it have said?").first.press("Enter")
    page.wait_for_selector(".candidate")
    assert (
        "drawn just now by the newest checkpoint (after 2 iterations)" in page.locator(".siblings").first.inner_text()
    )
    assert page.locator(".candidate .mark").inner_text() == "was said"
    gaps = page.locator(".siblings .few td:nth-child(2)").all_inner_texts()
    ranked = [float(gap.replace("−", "-")) for gap in gaps]
    assert ranked == sorted(ranked, reverse=True)


def test_a_person_plays_on_either_side(page: Any, played: str) -> None:
    page.goto(f"{played}#play")
    page.get_by_role("button", name="Begin").click()
    page.get_by_label("Your words").fill("red")
    page.keyboard.press("Enter")
    page.wait_for_selector("#turn-1")
    assert "red" in page.locator("#turn-1 .said").inner_text() and "you" in page.locator("#turn-1 .said").inner_text()
    assert page.evaluate("document.activeElement.name") == "words"  # ready for the next
    page.get_by_label("Your words").fill("red " * 100)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=an utterance of this run at most 8")
    page.locator(".candidate button").first.click()
    page.wait_for_selector("text=The game is over (terminated), return 1.00")  # the first word was the right one
    page.reload()
    page.wait_for_selector("text=The game is over")  # the server keeps it

    page.get_by_role("link", name="Play again").click()
    page.get_by_label("You are").select_option("environment")
    page.get_by_label("You open with").fill(HOSTILE)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("text=You are the environment")
    assert page.locator(".now .heard").inner_text() == HOSTILE
    page.get_by_label("Your answer").fill(HOSTILE)
    page.keyboard.press("Enter")
    page.wait_for_selector("#turn-1")
    assert page.locator(".now .heard").inner_text() == HOSTILE and page.locator("main img").count() == 0
    page.get_by_role("button", name="that was the end").click()
    page.wait_for_selector("text=The game is over")


def test_an_exported_file_opens_from_disk_and_asks_nobody(
    page: Any,
    run: Path,  # noqa: F811
    trained: Path,
    tmp_path: Path,
) -> None:
    export([run, trained], tmp_path / "out.html", 50)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.goto(f"file://{tmp_path}/out.html")
    page.wait_for_selector("canvas")
    page.get_by_role("link", name="Episodes").click()
    page.wait_for_selector("text=1–14 of 14")
    page.get_by_label("Text").fill("word 1.3")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector("text=1–1 of 1")
    page.locator("tbody a").first.click()
    page.wait_for_selector("text=word 1.3")
    page.get_by_role("link", name="all games").click()
    page.get_by_label("Text").fill("")
    page.get_by_label("Task (seed)").fill("99")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector("text=1–2 of 2")
    page.locator("tbody a").first.click()
    page.wait_for_selector(".said")
    assert page.locator(".said").inner_text() == HOSTILE and page.locator("main img").count() == 0
    page.get_by_role("button", name="The same task at another time").click()
    page.locator(".others a").click()
    page.wait_for_function("() => document.querySelectorAll('.talk').length === 2")
    page.goto(f"file://{tmp_path}/out.html#critic/1")
    page.wait_for_selector("#calibration canvas")
    page.locator("text=/turn . of game/").last.click()
    page.wait_for_selector(".strip")
    assert page.get_by_role("button", name="What else").count() == 0  # there is nobody to draw it
    assert page.get_by_role("link", name="Play").count() == 0
    assert asked and all(url.startswith(("file://", "data:")) for url in asked)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 360)])
def test_every_page_is_accessible_and_fits(page: Any, played: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    pages = [
        ("", "tbody .badge", ""),
        ("#episodes", "th[aria-sort]", ""),
        ("#episode/0/final/2/1", ".candidate", "What else could it have said?"),
        ("#episode/0/final/2/1", ".others a", "The same task at another time"),
        ("#episode/0/start/0/1+0/final/2/1", ".talk >> nth=1", ""),
        ("#critic", "#histogram canvas", ""),
        ("#play", "text=You are", ""),
        ("#play", ".candidate", "Begin"),
    ]
    for place, ready, press in pages:
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{played}{place}")
        if press:
            page.get_by_role("button", name=press).first.click()
        page.wait_for_selector(ready)
        found = axe.run(page)
        assert [v["id"] for v in found.response["violations"]] == [], place
        for any_width in (360, 1400):
            page.set_viewport_size({"width": any_width, "height": 800})
            wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, (place, any_width)
