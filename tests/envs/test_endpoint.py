"""The oracle behind a chat endpoint, against a server of our own that can also fail."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from archer.envs.base import play_scripted
from archer.envs.twenty_questions.endpoint import EndpointOracle, OracleError
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.twenty_questions.oracle import TableOracle


class Server(ThreadingHTTPServer):
    """Knows the facts, after the replies in ``script`` (status, body) are used up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, str]] = []
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        self.delay = 0.0
        self.company = threading.Barrier(1)
        """Requests are answered in groups of as many."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body, self.headers.get("Authorization")))
        time.sleep(self.server.delay)
        self.server.company.wait(timeout=3)
        lines = dict(line.split(": ", 1) for line in body["messages"][0]["content"].splitlines()[1:3])
        truth = TableOracle().answer([lines["object"]], [lines["question"]])[0]
        good = json.dumps({"choices": [{"message": {"content": truth}}]})
        status, text = self.server.script.pop(0) if self.server.script else (200, good)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def oracle(server: Server, **settings: Any) -> EndpointOracle:
    return EndpointOracle(server.url, "judge", **{"pause": 0.0, "timeout": 5.0, **settings})


def test_answers_a_batch_in_order_and_sends_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    answers = oracle(server, key_variable="SOME_KEY").answer(
        ["dog", "pen", "cat"], ["Is it alive?", "Is it alive?", "Is it nice?"]
    )
    assert answers == ["Yes.", "No.", "Invalid Question."]
    path, body, key = server.requests[0]
    assert path == "/v1/chat/completions" and body["model"] == "judge" and body["temperature"] == 0
    assert key == "Bearer secret"


def test_requests_of_a_batch_run_side_by_side(server: Server) -> None:
    server.company = threading.Barrier(2)  # one request at a time would wait in vain for another
    assert oracle(server).answer(["dog"] * 10, ["Is it alive?"] * 10) == ["Yes."] * 10


def test_a_game_is_played_with_it(server: Server) -> None:
    env = TwentyQuestions("ten", oracle=pickle.loads(pickle.dumps(oracle(server))))
    assert play_scripted(env, env.reference(0), seed=0).success


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_faults_are_tried_again(server: Server, status: int) -> None:
    server.script = [(status, "busy"), (status, "busy")]
    assert oracle(server).answer(["dog"], ["Is it alive?"]) == ["Yes."]
    assert len(server.requests) == 3


def test_a_fault_that_stays_is_reported(server: Server) -> None:
    server.script = [(500, "it is broken")] * 9
    with pytest.raises(OracleError, match=r"127\.0\.0\.1.*'judge'.*HTTP 500.*it is broken"):
        oracle(server, retries=2).answer(["dog"], ["Is it alive?"])
    assert len(server.requests) == 3


def test_a_refusal_is_not_tried_again(server: Server) -> None:
    server.script = [(401, "wrong key")]
    with pytest.raises(OracleError, match=r"HTTP 401.*wrong key"):
        oracle(server).answer(["dog"], ["Is it alive?"])
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", ["", "no json", "{}", '{"choices": []}', "[]", '{"choices": [{"text": "yes"}]}'])
def test_a_reply_of_another_kind_is_reported(server: Server, reply: str) -> None:
    server.script = [(200, reply)]
    with pytest.raises(OracleError, match="no chat completion"):
        oracle(server).answer(["dog"], ["Is it alive?"])


def test_a_reply_without_text_is_an_invalid_question(server: Server) -> None:
    server.script = [(200, '{"choices": [{"message": {"content": null}}]}')]
    assert oracle(server).answer(["dog"], ["Is it alive?"]) == ["Invalid Question."]


def test_a_slow_endpoint_times_out(server: Server) -> None:
    server.delay = 1.0
    with pytest.raises(OracleError, match=r"[Tt]ime"):
        oracle(server, timeout=0.1, retries=0).answer(["dog"], ["Is it alive?"])


def test_an_endpoint_that_is_not_there() -> None:
    with pytest.raises(OracleError, match="refused"):
        EndpointOracle("http://127.0.0.1:9", "judge", retries=1, pause=0.0).answer(["dog"], ["Is it alive?"])


@pytest.mark.parametrize(
    "settings", [{"url": "localhost"}, {"retries": -1}, {"parallel": 0}, {"timeout": 0.0}, {"max_tokens": 0}]
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        EndpointOracle(**{"url": "http://localhost", "model": "judge", **settings})
