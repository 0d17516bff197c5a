"""Where environments answer: beside the players, in threads, on an event loop, or in processes of their own.

A hosted environment is used like any other. What differs is how it fails: as a ``Fault`` with a kind, after a set time
at the latest, and, in a process of its own, without harm to anything else.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import TimeoutError as Late
from queue import Empty, SimpleQueue
from typing import Any, Self

from archer.envs.base import Environment, Player, ScriptedGame, begin_episode, close, play_scripted_games
from archer.envs.faults import Fault
from archer.envs.processes import ProcessPool


class Hosting:
    """Makes copies of an environment, whose methods may be coroutines.

    workers: processes, where ``processes`` is set; each holds several copies, which it serves in turn. Threads, where
        it is not, are the business of who plays.
    timeout: seconds after which an answer is given up, 0 for never. Only a process can then be ended; a thread that
        hangs is left behind with its copy.
    """

    def __init__(
        self, make_env: Callable[[], Any], *, workers: int = 0, processes: bool = False, timeout: float = 0.0
    ) -> None:
        if processes and not workers:
            raise ValueError("rollout.processes needs rollout.workers: how many processes there are to be")
        self._make, self._timeout = make_env, timeout
        self._pool = ProcessPool(make_env, workers, timeout) if processes else None
        self._loop: asyncio.AbstractEventLoop | None = None
        if self._pool is None:
            probe = make_env()
            if inspect.iscoroutinefunction(probe.step):
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="environments", daemon=True).start()
            close(probe)

    @property
    def waits(self) -> bool:
        """Whether environments wait for something else than the processor, so that all should answer at once."""
        return self._loop is not None

    def __call__(self) -> Environment:
        """A fresh copy."""
        return self.around(self._make()) if self._pool is None else self._pool.make()

    def around(self, env: Any) -> Environment:
        """An environment that was made elsewhere, answering as the copies do that are made here; not in processes."""
        if self._loop is not None:
            return _Asynchronous(env, self._loop, self._timeout)
        return _Watched(env, self._timeout) if self._timeout else env

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and the event loop."""
        if self._pool is not None:
            self._pool.close()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


def play_hosted(
    make_env: Callable[[], Any],
    env: Environment,
    player: Callable[[int], Player],
    seeds: Sequence[int],
    report: Callable[[int], None],
) -> list[ScriptedGame]:
    """``play_scripted_games`` of an environment that ``make_env`` made, whose methods may be coroutines; it is closed
    behind them."""
    with Hosting(make_env) as hosting:
        answering = hosting.around(env)
        try:
            return play_scripted_games(answering, player, seeds, report)
        finally:
            close(answering)


class _Watched:
    """An environment that answers in time or not at all."""

    def __init__(self, env: Environment, timeout: float) -> None:
        self._env, self._timeout = env, timeout

    def reset(self, *, seed: int | None = None, options: Mapping[str, object] | None = None) -> Any:
        return self._within(lambda: begin_episode(self._env, seed, options))

    def step(self, utterance: str) -> Any:
        return self._within(lambda: self._env.step(utterance))

    def close(self) -> None:
        self._within(lambda: close(self._env))

    def _within(self, call: Callable[[], Any]) -> Any:
        answer: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()

        def run() -> None:
            try:
                answer.put((call(), None))
            except Exception as error:
                answer.put((None, error))

        threading.Thread(target=run, name="environment", daemon=True).start()
        try:
            result, error = answer.get(timeout=self._timeout)
        except Empty:
            raise Fault("timeout", f"no answer within {self._timeout:g} s") from None
        if error is not None:
            raise error
        return result


class _Asynchronous:
    """An environment whose ``reset`` and ``step`` are coroutines, which run on an event loop that all share."""

    def __init__(self, env: Any, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._env, self._loop, self._timeout = env, loop, timeout

    def reset(self, *, seed: int | None = None, options: Mapping[str, object] | None = None) -> Any:
        return self._await(begin_episode(self._env, seed, options))

    def step(self, utterance: str) -> Any:
        return self._await(self._env.step(utterance))

    def close(self) -> None:
        method = getattr(self._env, "close", None)
        if method is not None and inspect.isawaitable(closing := method()):
            self._await(closing)

    def _await(self, answer: Any) -> Any:
        async def finish() -> Any:
            return await answer

        coroutine: Coroutine[Any, Any, Any] = finish()
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(self._timeout or None)
        except Late:
            if not future.done():
                future.cancel()
                raise Fault("timeout", f"no answer within {self._timeout:g} s") from None
            raise  # the environment's own
