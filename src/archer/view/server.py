"""The pages over HTTP: to this machine only, from these pages only, of the given folders only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from archer.extras import need
from archer.view.data import Query, RunView, differences
from archer.view.tables import CANDIDATES, Tables, read

STATIC = Path(__file__).with_name("static")
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""Nothing is loaded from elsewhere, and no text that a model or an environment wrote becomes a script."""
LONGEST = 64 * 1024
"""Bytes of what a page sends."""


def create_app(runs: Sequence[Path], hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> Any:
    """The application for some run folders; ``hosts`` are the names it may be called by."""
    flask = need("flask", "view")
    views = {str(number): RunView(path) for number, path in enumerate(runs)}
    tables = Tables()
    app = flask.Flask(__name__, static_folder=str(STATIC), static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = LONGEST

    @app.before_request  # type: ignore[untyped-decorator]
    def guard() -> Any:
        """Refuse calls in another name (DNS rebinding) and from other pages."""
        called, origin = (
            flask.request.host.rpartition(":")[0] or flask.request.host,
            flask.request.headers.get("Origin"),
        )
        if called not in hosts or (origin is not None and origin != flask.request.host_url.rstrip("/")):
            return flask.jsonify(error="this page answers to its own address only"), 403
        if flask.request.method == "POST" and not flask.request.is_json:  # as a form of another page would
            return flask.jsonify(error="JSON only"), 415
        return None

    @app.after_request  # type: ignore[untyped-decorator]
    def protect(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.errorhandler(ValueError)  # type: ignore[untyped-decorator]
    def wrong(error: ValueError) -> Any:
        return flask.jsonify(error=str(error)), 400

    @app.errorhandler(LookupError)  # type: ignore[untyped-decorator]
    def missing(error: LookupError) -> Any:
        return flask.jsonify(error=str(error)), 404

    @app.errorhandler(RuntimeError)  # type: ignore[untyped-decorator]
    def failed(error: RuntimeError) -> Any:
        """An environment, a checkpoint or a shard; what went wrong is said by the error."""
        return flask.jsonify(error=str(error)), 500

    @app.errorhandler(need("werkzeug.exceptions", "view").HTTPException)  # type: ignore[untyped-decorator]
    def refused(error: Any) -> Any:
        return flask.jsonify(error=error.description), error.code

    def view(run: str) -> RunView:
        if run not in views:
            raise LookupError(f"there is no run {run!r}")
        return views[run]

    @app.route("/")  # type: ignore[untyped-decorator]
    def page() -> Any:
        return flask.send_from_directory(STATIC, "index.html")

    @app.route("/api/runs")  # type: ignore[untyped-decorator]
    def overviews() -> Any:
        found = {number: view.overview() for number, view in views.items()}
        return flask.jsonify(runs=found, differences=differences([one["config"] for one in found.values()]))

    @app.route("/api/runs/<run>/episodes")  # type: ignore[untyped-decorator]
    def episodes(run: str) -> Any:
        return flask.jsonify(view(run).episodes(query_of(flask.request.args)))

    @app.route("/api/runs/<run>/episodes/<source>/<int:iteration>/<int:row>")  # type: ignore[untyped-decorator]
    def episode(run: str, source: str, iteration: int, row: int) -> Any:
        return flask.jsonify(view(run).episode(source, iteration, row))

    @app.route("/api/runs/<run>/critic")  # type: ignore[untyped-decorator]
    def critic(run: str) -> Any:
        from archer.view.critic import critic_page

        return flask.jsonify(critic_page(view(run), flask.request.args.get("source", "")))

    def sent() -> dict[str, Any]:
        content = flask.request.get_json()
        if not isinstance(content, dict):
            raise ValueError("an object is wanted")
        return content

    @app.route("/api/runs/<run>/episodes/<source>/<int:iteration>/<int:row>/<int:turn>/siblings", methods=["POST"])  # type: ignore[untyped-decorator]
    def siblings(run: str, source: str, iteration: int, row: int, turn: int) -> Any:
        """What the newest policy would say at a turn of a kept game; nothing is kept of it."""
        count, draw = read(sent(), "count", int, 8), read(sent(), "draw", int, 0)
        if not (1 <= count <= CANDIDATES and 0 <= draw < 1000):
            raise ValueError(f"count must be from 1 to {CANDIDATES} and draw from 0 to 999")
        return flask.jsonify(view(run).siblings(source, iteration, row, turn, count, draw))

    @app.route("/api/runs/<run>/play", methods=["POST"])  # type: ignore[untyped-decorator]
    def play(run: str) -> Any:
        return flask.jsonify(tables.begin(run, view(run), sent()))

    @app.route("/api/play/<table>", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    def game(table: str) -> Any:
        return flask.jsonify(tables.state(table, sent() if flask.request.method == "POST" else None))

    return app


def query_of(arguments: Mapping[str, str]) -> Query:
    """A query from an address; ValueError naming what is no number or unknown."""
    kinds: dict[str, type] = {
        "source": str, "sort": str, "descending": int, "offset": int, "limit": int, "least": float, "most": float,
        "end": str, "text": str, "iteration": int, "seed": int,
    }  # fmt: skip
    read: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in kinds:
            raise ValueError(f"unknown {name!r}; known: {', '.join(kinds)}")
        if value != "":
            try:
                read[name] = kinds[name](value)
            except ValueError:
                raise ValueError(f"{name} must be a number, got {value!r}") from None
    if "descending" in read:
        read["descending"] = bool(read["descending"])
    return Query(**read)


def serve(runs: Sequence[Path], port: int, ready: Any = lambda address: None) -> None:
    """Serve until stopped; ``ready`` hears the address."""
    serving = need("werkzeug.serving", "view")
    app = create_app(runs)
    with socket.socket() as tried:  # the server would end the program, in words of its own
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(f"--port: {port} cannot be served on ({error.strerror}); 0 takes a free one") from None
    server = serving.make_server("127.0.0.1", port, app, threaded=True)
    # What judges games loads torch, for seconds: the first pages need none of it, and the first game should not wait.
    threading.Thread(target=import_module, args=["archer.view.judging"], daemon=True).start()
    ready(f"http://127.0.0.1:{server.server_port}/")
    server.serve_forever()
