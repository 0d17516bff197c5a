"""Environments in threads, on an event loop and in processes: the same answers, and each kind of failure."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from tests.worlds import Echo, Misbehaving

from archer.envs.base import Environment, close
from archer.envs.faults import Fault
from archer.envs.hosting import Hosting
from archer.operations.collecting import collect_scripted


class Later:
    """Echo, but it answers when the event loop comes round to it."""

    def __init__(self, wait: float = 0.0) -> None:
        self._echo, self._wait = Echo(), wait

    async def reset(self, *, seed: int | None = None) -> Any:
        await asyncio.sleep(self._wait)
        return self._echo.reset(seed=seed)

    async def step(self, utterance: str) -> Any:
        await asyncio.sleep(self._wait)
        return self._echo.step(utterance)


def talk(env: Environment, seed: int) -> list[Any]:
    return [env.reset(seed=seed), *(env.step(word) for word in ("one", "two"))]


@pytest.mark.parametrize(
    "hosting",
    [
        partial(Hosting, Echo),
        partial(Hosting, Echo, timeout=5.0),
        partial(Hosting, Echo, workers=2, processes=True),
        partial(Hosting, Later),
        partial(Hosting, Later, workers=1, processes=True, timeout=5.0),
    ],
    ids=["plain", "watched", "processes", "coroutines", "coroutines in a process"],
)
def test_wherever_it_runs_it_says_the_same(hosting: Callable[[], Hosting]) -> None:
    with hosting() as make:
        first, second = make(), make()
        assert talk(first, 4) == talk(Echo(), 4)
        assert talk(second, 2) == talk(Echo(), 2)
        assert talk(first, 3) == talk(Echo(), 3)
        close(first)
        close(second)


def test_coroutines_all_wait_at_once() -> None:
    with Hosting(partial(Later, 0.2)) as make, ThreadPoolExecutor(20) as threads:
        assert make.waits
        envs = [make() for _ in range(20)]
        began = time.perf_counter()
        list(threads.map(lambda env: env.reset(seed=1), envs))
        assert time.perf_counter() - began < 2  # one after another: 4 s


@pytest.mark.parametrize("processes", [False, True])
def test_what_hangs_is_given_up(processes: bool) -> None:
    with Hosting(partial(Misbehaving, "hang"), workers=processes * 1, processes=processes, timeout=0.5) as make:
        env = make()
        env.reset(seed=0)
        with pytest.raises(Fault, match=r"0\.5 s") as caught:
            env.step("hello")
        assert caught.value.kind == "timeout"
        fresh = make()
        assert fresh.reset(seed=1)[0] == "Say a word."  # and the next copy is served


def test_a_coroutine_that_hangs_is_given_up() -> None:
    with Hosting(partial(Later, 5.0), timeout=0.1) as make, pytest.raises(Fault, match="no answer"):
        make().reset(seed=0)


def test_a_process_that_dies_is_replaced_and_only_its_copies_are_lost() -> None:
    with Hosting(partial(Misbehaving, "die"), workers=2, processes=True) as make:
        dying, beside, elsewhere = make(), make(), make()  # the first and the third share a process
        for env, seed in ((dying, 0), (beside, 1), (elsewhere, 1)):
            env.reset(seed=seed)
        with pytest.raises(Fault, match="exit code 3") as caught:
            dying.step("hello")
        assert caught.value.kind == "died"
        assert beside.step("hello")[0] == "You said 1 words."
        with pytest.raises(Fault) as caught:
            elsewhere.step("hello")
        assert caught.value.kind == "lost"
        elsewhere.reset(seed=1)
        assert elsewhere.step("hello")[0] == "You said 1 words."


def test_what_an_environment_raises_comes_back_with_its_kind() -> None:
    with Hosting(partial(Misbehaving, "raise"), workers=1, processes=True) as make:
        env = make()
        env.reset(seed=0)
        with pytest.raises(Fault, match="KeyError: 'the shop is closed'") as caught:
            env.step("hello")
        assert caught.value.kind == "exception"
        assert "Traceback" in str(caught.value.__cause__)
    with Hosting(partial(Misbehaving, "nan"), workers=1, processes=True) as make:
        env = make()
        env.reset(seed=0)
        with pytest.raises(Fault, match="finite") as caught:
            env.step("hello")
        assert caught.value.kind == "contract"


def test_what_cannot_be_sent_to_a_process_is_refused() -> None:
    with pytest.raises(ValueError, match=r"put its class into a module"):
        Hosting(lambda: Echo(), workers=1, processes=True)
    with pytest.raises(ValueError, match=r"rollout\.workers"):
        Hosting(Echo, processes=True)


def test_no_process_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import time\n"
        "from archer.envs.hosting import Hosting\n"
        "from tests.worlds import Echo\n"
        "if __name__ == '__main__':\n"
        "    make = Hosting(Echo, workers=2, processes=True)\n"
        "    for _ in range(2): make().reset(seed=0)\n"
        "    print(*(w._process.pid for w in make._pool._workers), flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path.cwd() / 'src'}:{Path.cwd()}"}
    run = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None
    workers = [int(pid) for pid in run.stdout.readline().split()]
    assert len(workers) == 2
    run.send_signal(signal.SIGKILL)
    run.wait()
    end = time.monotonic() + 10
    while any(_alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Shown(Later):
    """A task of coroutines with a scripted player, which must be closed like a connection."""

    closed = 0

    def demonstrator(self, seed: int) -> Callable[[Any], str]:
        return lambda observation: "red"

    async def close(self) -> None:
        await asyncio.sleep(0)
        Shown.closed += 1


def test_demonstrations_of_coroutines_are_played_and_closed() -> None:
    Shown.closed = 0
    factory: Any = Shown
    games = collect_scripted("demonstrator", factory, 3, seed=0)
    assert len(games) == 3 and all(said == "red" for game in games for said in game.utterances)
    assert Shown.closed == 2  # the copy that played, and the one that told whether it answers later


def test_a_coroutine_is_closed_in_a_notebook_too() -> None:
    Shown.closed = 0

    async def cell() -> None:
        close(cast(Any, Shown()))

    asyncio.run(cell())
    assert Shown.closed == 1
