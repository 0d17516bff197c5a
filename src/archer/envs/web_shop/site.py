"""The web shop as a web site, with WebShop's own addresses: for people, and for agents that speak its protocol.

    python -m archer.envs.web_shop.site --port 3000

The session in the address says what is wanted: ``fixed_7`` is instruction 7, any other word one that is drawn by it.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping
from typing import Any

from archer.envs.web_shop.catalogue import Goal, Product, goals, products, reward, search
from archer.extras import need

SHOWN = 10
"""Products on a page of results, as in the original."""

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width"><style>
body {font: 16px/1.5 system-ui; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff}
button {font: inherit; padding: .2rem .7rem; margin: .2rem .3rem .2rem 0; cursor: pointer}
label {display: inline-block; border: 1px solid #888; border-radius: .3rem; padding: .1rem .6rem; margin: .1rem}
label.chosen {background: #222; color: #fff} a {color: inherit; text-decoration: none}
h4 {margin: .6rem 0 0} .product-link {font-weight: bold; text-decoration: underline}
</style></head><body>
<h3>Shop</h3><div id="instruction-text"><h4>Instruction: <br>{{ goal.text }}</h4></div>
{% macro button(text, address) %}<a href="{{ address }}"><button>{{ text }}</button></a>{% endmacro %}
{% block page %}{% endblock %}</body></html>"""
_SEARCH = """{% extends "page" %}{% block page %}
<form method="post"><input name="search_query" aria-label="Search" autofocus><button>Search</button></form>
{% endblock %}"""
_RESULTS = """{% extends "page" %}{% block page %}
{{ button("Back to Search", home) }}<h4>Page {{ page }} (Total results: {{ total }})</h4>
{% if page > 1 %}{{ button("< Prev", before) }}{% endif %}{% if more %}{{ button("Next >", after) }}{% endif %}
{% for product, address in found %}<div><h4><a class="product-link" href="{{ address }}">{{ product.code }}</a></h4>
<h4>{{ product.title }}</h4><h4>${{ product.price }}</h4></div>{% endfor %}{% endblock %}"""
_ITEM = """{% extends "page" %}{% block page %}
{{ button("Back to Search", home) }}{{ button("< Prev", back) }}
{% for name, values in options %}<h4>{{ name }}</h4>{% for value, chosen, address in values %}
<a href="{{ address }}"><label class="{{ 'chosen' if chosen }}">{{ value }}</label></a>{% endfor %}{% endfor %}
<h2>{{ product.title }}</h2><h4>Price: ${{ product.price }}</h4>
{{ button("Features", features) }}{{ button("Buy Now", buy) }}{% endblock %}"""
_FEATURES = """{% extends "page" %}{% block page %}
{{ button("Back to Search", home) }}{{ button("< Prev", back) }}
<ul>{% for attribute in product.attributes %}<li>{{ attribute }}</li>{% endfor %}</ul>{% endblock %}"""
_DONE = """{% extends "page" %}{% block page %}
<h2>Thank you for shopping with us!</h2><h3 id="reward">Your score (min 0.0, max 1.0)<pre>{{ score }}</pre></h3>
{% endblock %}"""


def goal_of(session: str) -> Goal:
    """What is wanted in a session."""
    word, _, number = session.partition("_")
    if word == "fixed" and number.isdigit():
        return goals()[int(number[:9]) % len(goals())]
    return random.Random(session).choice(goals())


def create_app() -> Any:
    """The site as a Flask application; it keeps nothing, all is in the addresses."""
    flask = need("flask", "web-shop")
    jinja = need("jinja2", "web-shop")
    app = flask.Flask(__name__)
    texts = {
        "page": _PAGE, "search": _SEARCH, "results": _RESULTS, "item": _ITEM, "features": _FEATURES, "done": _DONE,
    }  # fmt: skip
    app.jinja_loader = jinja.DictLoader(texts)
    app.jinja_env.autoescape = True  # of templates without a file name, too

    def show(name: str, session: str, **values: Any) -> Any:
        return flask.render_template(name, goal=goal_of(session), home=f"/{session}", **values)

    def product_of(code: str) -> Product:
        if code not in products():
            flask.abort(404, f"there is no product {code}")
        return products()[code]

    @app.route("/")  # type: ignore[untyped-decorator]
    def begin() -> Any:
        return flask.redirect(f"/fixed_{random.randrange(len(goals()))}")

    @app.route("/<session>", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    def start(session: str) -> Any:
        asked = " ".join(flask.request.form.get("search_query", "").replace("/", " ").split())
        return flask.redirect(f"/search_results/{session}/{asked}/1") if asked else show("search", session)

    @app.route("/search_results/<session>/<asked>/<int:page>")  # type: ignore[untyped-decorator]
    def results(session: str, asked: str, page: int) -> Any:
        codes = search(_query(asked))
        start = (max(1, page) - 1) * SHOWN
        here = [
            (products()[code], f"/item_page/{session}/{code}/{asked}/{page}/{{}}")
            for code in codes[start : start + SHOWN]
        ]
        address = f"/search_results/{session}/{asked}"
        return show(
            "results", session, page=page, total=len(codes), found=here, more=len(codes) > start + SHOWN,
            before=f"{address}/{page - 1}", after=f"{address}/{page + 1}",
        )  # fmt: skip

    @app.route("/item_page/<session>/<code>/<asked>/<int:page>/<options>")  # type: ignore[untyped-decorator]
    def item(session: str, code: str, asked: str, page: int, options: str) -> Any:
        product, chosen = product_of(code), read_options(options)
        place = f"{session}/{code}/{asked}/{page}"
        shown = [
            (name, [(v, chosen.get(name) == v, f"/item_page/{place}/{dict(chosen) | {name: v}}") for v in values])
            for name, values in (("color", product.colours), ("size", product.sizes))
        ]
        return show(
            "item", session, product=product, options=shown, back=f"/search_results/{session}/{asked}/{page}",
            features=f"/item_sub_page/{place}/Features/{dict(chosen)}", buy=f"/done/{session}/{code}/{dict(chosen)}",
        )  # fmt: skip

    @app.route("/item_sub_page/<session>/<code>/<asked>/<int:page>/<sub>/<options>")  # type: ignore[untyped-decorator]
    def features(session: str, code: str, asked: str, page: int, sub: str, options: str) -> Any:
        back = f"/item_page/{session}/{code}/{asked}/{page}/{dict(read_options(options))}"
        return show("features", session, product=product_of(code), back=back)

    @app.route("/done/<session>/<code>/<options>")  # type: ignore[untyped-decorator]
    def done(session: str, code: str, options: str) -> Any:
        chosen = frozenset(read_options(options).values())
        return show("done", session, score=reward(goal_of(session), product_of(code), chosen))

    return app


def _query(asked: str) -> str:
    """A query as the original's clients write it: words, or a list of them."""
    if asked.startswith("["):
        try:
            return " ".join(map(str, ast.literal_eval(asked)))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return asked
    return asked


def read_options(text: str) -> Mapping[str, str]:
    """Chosen options as they stand in an address, ``{'color': 'red'}``; none where it is something else."""
    try:
        read = ast.literal_eval(text[:1000])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def main(port: int = 3000, host: str = "127.0.0.1") -> None:
    """Serve the shop until stopped; only to this machine unless another host is named."""
    print(f"http://{host}:{port}/")
    create_app().run(host=host, port=port)


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
