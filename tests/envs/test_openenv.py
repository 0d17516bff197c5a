"""The OpenEnv client, against a server of our own; only where the package is installed, which is large."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from archer.envs import make_factory
from archer.envs.checking import check

pytest.importorskip("openenv.core")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    import uvicorn
    from openenv.core.env_server.http_server import create_fastapi_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, Observation, State

    class Guess(Action):  # type: ignore[misc, unused-ignore]
        message: str

    class Told(Observation):  # type: ignore[misc, unused-ignore]
        text: str = ""

    class Number(Environment):  # type: ignore[misc, unused-ignore]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Told:
            self.secret, self.turn = random.Random(seed).randint(1, 9), 0
            return Told(text="Guess.")

        def step(self, action: Guess, timeout_s: float | None = None, **_: Any) -> Told:
            self.turn += 1
            won = action.message == str(self.secret)
            return Told(text="Yes." if won else "No.", reward=0.0 if won else -1.0, done=won or self.turn == 5)

        @property
        def state(self) -> State:
            return State(step_count=self.turn)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_fastapi_app(Number, Guess, Told, max_concurrent_envs=20)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started and time.monotonic() < end:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def test_a_game_is_played_over_the_line(url: str) -> None:
    env = make_factory("openenv", {"url": url})()
    assert env.reset(seed=4)[0] == "Guess."
    secret = random.Random(4).randint(1, 9)
    assert env.step(str(secret % 9 + 1))[:3] == ("No.", -1.0, False)
    assert env.step(str(secret))[:3] == ("Yes.", 0.0, True)
    with pytest.raises(RuntimeError, match="reset"):
        env.step("1")
    env.close()  # type: ignore[attr-defined]


def test_nothing_is_wrong_with_it(url: str) -> None:
    make = make_factory("openenv", {"url": url, "observation": "text"})
    assert [f for f in check(make, 4) if f.level == "error"] == []
    with pytest.raises(KeyError, match=r"no field 'nothing', but .*text"):
        make_factory("openenv", {"url": url, "observation": "nothing"})().reset(seed=0)
    with pytest.raises(ValueError, match="url must start"):
        make_factory("openenv", {"url": "localhost"})
