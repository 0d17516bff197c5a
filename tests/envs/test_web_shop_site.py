"""The shop as a web site: its pages, and an agent that shops there by the original's protocol."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.serving import make_server

from archer.envs import make_factory
from archer.envs.adapters.webshop import WebShopHTTP
from archer.envs.checking import check
from archer.envs.web_shop.catalogue import goals, products, reward
from archer.envs.web_shop.site import create_app, goal_of, read_options


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_person_finds_the_way_from_search_to_score() -> None:
    client = create_app().test_client()
    assert client.get("/").status_code == 302
    goal = goals()[7]
    assert goal.text in client.get("/fixed_7").text and goal_of("fixed_7") == goal
    found = client.post("/fixed_7", data={"search_query": f"{goal.kind} {goal.attributes[0]}"}, follow_redirects=True)
    assert "Page 1 (Total results:" in found.text
    item = re.search(r'class="product-link" href="([^"]+)"', found.text)
    assert item is not None
    page = client.get(item[1].replace("&#39;", "'"))
    buy = re.findall(r'href="(/done/[^"]+)"', page.text)[0].replace("&#39;", "'")
    code = buy.split("/")[3]
    done = client.get(buy)
    score = re.search(r"<pre>([\d.]+)</pre>", done.text)
    assert score is not None and float(score[1]) == pytest.approx(reward(goal, products()[code], frozenset()))
    assert client.get("/item_page/fixed_7/NOTHING/x/1/{}").status_code == 404


def test_what_a_person_types_stays_text() -> None:
    client = create_app().test_client()
    page = client.post("/fixed_0", data={"search_query": "<script>alert(1)</script>"}, follow_redirects=True).text
    assert "<script>" not in page
    assert "<script>" not in client.get("/search_results/<script>x/lamp/1").text
    assert read_options("__import__('os').system('true')") == {}
    assert read_options("{'color': 'red'}") == {"color": "red"}
    assert read_options("(" * 5000) == {}


def test_an_agent_shops_there_as_in_the_text_environment(url: str) -> None:
    env = WebShopHTTP(url)
    number = 7
    goal = goals()[number]
    first, _ = env.reset(options={"session": number})
    assert goal.text in str(first)
    assert env.step("click[Buy Now]")[:2] == ("Invalid action!", 0.0)
    results = str(env.step(f"search[{goal.kind} {' '.join(goal.attributes)}]")[0])
    codes = re.findall(r"\[(P\d+)\]", results)
    assert len(codes) == 3 and "[Next >]" in results and "[Back to Search]" in results
    env.step("click[next >]")
    env.step("click[< Prev]")
    page = str(env.step(f"click[{codes[0]}]")[0])
    product = products()[codes[0]]
    assert product.title in page and f"[{product.colours[0]}]" in page
    page = str(env.step(f"click[{product.colours[0]}]")[0])
    assert f"[[{product.colours[0]}]]" in page
    assert product.attributes[2] in str(env.step("click[Features]")[0])
    assert f"[[{product.colours[0]}]]" in str(env.step("click[< Prev]")[0])
    env.step(f"click[{product.sizes[0]}]")
    _, score, over, _, info = env.step("click[Buy Now]")
    chosen = frozenset({product.colours[0], product.sizes[0]})
    assert over and score == pytest.approx(reward(goal, product, chosen)) and info["success"] == (score == 1.0)


def test_nothing_is_wrong_with_it_and_a_site_that_is_gone_is_named(url: str) -> None:
    make = make_factory("webshop-http", {"url": url, "sessions": 500})
    assert [f for f in check(make, 5) if f.level == "error"] == []
    gone: Any = make_factory("webshop-http", {"url": "http://127.0.0.1:9"})()
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9/fixed_"):
        gone.reset(seed=0)
    with pytest.raises(ValueError, match="http://"):
        WebShopHTTP("localhost")
    with pytest.raises(ValueError, match="held_out"):
        WebShopHTTP(url, sessions=10, held_out=10)
