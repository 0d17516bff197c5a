"""Models behind an environment: an endpoint (against a server of our own that can also fail), cache, batches."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from archer.envs.base import play_scripted
from archer.envs.guess_my_city.env import GuessMyCity
from archer.envs.oracles.base import Cached, OracleError, Together
from archer.envs.oracles.endpoint import ChatEndpoint
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.twenty_questions.oracle import ModelOracle, TableOracle


class Server(ThreadingHTTPServer):
    """Knows the facts, after the replies in ``script`` (status, body) are used up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, str]] = []
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        self.delay = 0.0
        self.retry_after = "0"
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
        lines = dict(line.split(": ", 1) for line in body["messages"][-1]["content"].splitlines()[1:3])
        truth = TableOracle().answer([lines["object"]], [lines["question"]])[0]
        usage = {"prompt_tokens": 30, "completion_tokens": 2}
        good = json.dumps({"choices": [{"message": {"content": truth}}], "usage": usage})
        status, text = self.server.script.pop(0) if self.server.script else (200, good)
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", self.server.retry_after)
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


def oracle(server: Server, **settings: Any) -> ModelOracle:
    return ModelOracle(endpoint(server, **settings))


def endpoint(server: Server, **settings: Any) -> ChatEndpoint:
    return ChatEndpoint(server.url, "judge", **{"pause": 0.0, "timeout": 5.0, **settings})


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
    env = TwentyQuestions("ten", oracle=pickle.loads(pickle.dumps(endpoint(server))))
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
        ChatEndpoint("http://127.0.0.1:9", "judge", retries=1, pause=0.0).complete(["Is it alive?"])


@pytest.mark.parametrize(
    "settings",
    [{"url": "localhost"}, {"retries": -1}, {"parallel": 0}, {"timeout": 0.0}, {"max_tokens": 0}, {"per_minute": -1}],
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ChatEndpoint(**{"url": "http://localhost", "model": "judge", **settings})


PROMPT = "Answer.\nobject: dog\nquestion: Is it alive?\nanswer:"


def test_requests_tokens_and_cost_are_counted(server: Server) -> None:
    server.script = [(500, "busy")]
    model = endpoint(server, price_in=1.0, price_out=10.0)
    assert model.complete([PROMPT] * 3) == ["Yes."] * 3
    account = model.account
    assert (account.requests, account.failures, account.tokens_in, account.tokens_out) == (4, 1, 90, 6)
    assert model.cost == pytest.approx((90 + 60) / 1e6)


def test_requests_are_spread_over_the_minute(server: Server) -> None:
    began = time.monotonic()
    endpoint(server, per_minute=600).complete([PROMPT] * 5)  # one every tenth of a second
    assert 0.35 < time.monotonic() - began < 3


def test_an_endpoint_that_says_how_long_to_wait_is_left_alone_so_long(server: Server) -> None:
    server.script, server.retry_after = [(429, "slow down")], "1"
    began = time.monotonic()
    assert endpoint(server).complete([PROMPT]) == ["Yes."]
    assert time.monotonic() - began >= 1


def test_a_system_message_comes_first(server: Server) -> None:
    endpoint(server, system="You are terse.").complete([PROMPT])
    assert [message["role"] for message in server.requests[0][1]["messages"]] == ["system", "user"]


class Scripted:
    """Replies with how often it was asked, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def complete(self, prompts: Any) -> list[str]:
        self.batches.append(list(prompts))
        if "bad" in prompts:
            raise OracleError("no answer")
        time.sleep(0.05)
        return [f"{prompt}!" for prompt in prompts]


def test_a_cache_asks_only_for_what_is_new_and_outlives_the_process(tmp_path: Any) -> None:
    inner = Scripted()
    cached = Cached(inner, tmp_path / "new" / "replies.sqlite", "model")
    assert cached.complete(["a", "b", "a"]) == ["a!", "b!", "a!"]
    assert inner.batches == [["a", "b"]]
    again = Cached(inner, tmp_path / "new" / "replies.sqlite", "model")
    assert again.complete(["b", "c"]) == ["b!", "c!"] and again.hits == 1
    assert inner.batches == [["a", "b"], ["c"]]
    other = Cached(inner, tmp_path / "new" / "replies.sqlite", "another model")
    assert other.complete(["a"]) == ["a!"] and other.hits == 0
    with pytest.raises(OracleError):
        cached.complete(["bad"])
    assert cached.complete(["a"]) == ["a!"]


def test_a_cache_is_shared_by_threads(tmp_path: Any) -> None:
    cached = pickle.loads(pickle.dumps(Cached(Scripted(), tmp_path / "replies.sqlite", "model")))
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda n: cached.complete([f"p{n % 5}"])[0], range(40)))
    assert replies == [f"p{n % 5}!" for n in range(40)]


def test_what_is_asked_at_the_same_time_is_one_batch() -> None:
    inner = Scripted()
    together = pickle.loads(pickle.dumps(Together(inner, wait=0.2)))
    with ThreadPoolExecutor(10) as threads:
        replies = list(threads.map(lambda n: together.complete([f"p{n}"])[0], range(10)))
    assert replies == [f"p{n}!" for n in range(10)]
    assert len(together._inner.batches) <= 3


def test_a_batch_that_fails_fails_for_all_and_the_next_does_not() -> None:
    together = Together(Scripted(), wait=0.0, most=2)
    with pytest.raises(OracleError, match="no answer"):
        together.complete(["bad"])
    assert together.complete(["a", "b", "c"]) == ["a!", "b!", "c!"]
    with pytest.raises(ValueError, match="most"):
        Together(Scripted(), most=0)


class Resident:
    """Says too much."""

    def complete(self, prompts: Any) -> list[str]:
        return [f"I am from {prompt.split('.')[0].removeprefix('You are from ')}, of course." for prompt in prompts]


def test_a_model_that_names_the_city_is_silenced() -> None:
    env = GuessMyCity(oracle=Resident())
    env.reset(options={"target": "Paris"})
    assert env.step("Where are you from?")[0] == "I can't answer that question."
    with pytest.raises(ValueError, match="complete"):
        GuessMyCity(oracle=object())  # type: ignore[arg-type]
