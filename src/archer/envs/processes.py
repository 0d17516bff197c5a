"""Environments in processes of their own, which may hang, leak or die without harm to the run."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import multiprocessing
import os
import pickle
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from archer.envs.base import Environment, begin_episode, check_reset, check_step, close
from archer.envs.faults import Fault, fault_of

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads as they happen to be


class ProcessPool:
    """``workers`` processes, each with a share of the copies; one that is lost is replaced at once."""

    def __init__(self, make_env: Callable[[], Environment], workers: int, timeout: float) -> None:
        try:
            pickle.dumps(make_env)
        except Exception as error:
            raise ValueError(
                f"rollout.processes: the environment cannot be sent to a process ({error}); put its class into a "
                "module and name it package.module:Name"
            ) from None
        self._workers = [_Worker(make_env, timeout) for _ in range(workers)]
        self._next = itertools.cycle(self._workers)

    def make(self) -> Environment:
        """A fresh copy, in the next process."""
        return _Remote(next(self._next))

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


class _Worker:
    """A process and the line to it; who calls waits until those before have been answered."""

    def __init__(self, make_env: Callable[[], Environment], timeout: float) -> None:
        self._make_env, self._timeout = make_env, timeout
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.generation = 0
        self._start()

    def _start(self) -> None:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(theirs, self._make_env), name="environments", daemon=True)
        process.start()
        theirs.close()
        self._line, self._process = ours, process
        # Without this a forgotten pool would keep its processes until the interpreter ends.
        self._ending = weakref.finalize(self, _end, process, ours)

    def call(self, generation: int, method: str, *arguments: Any) -> Any:
        """What the process answers; Fault if it does not, in which case there is a new process afterwards."""
        with self._lock:
            if generation != self.generation:
                raise Fault("lost", "another environment in its process failed, and the process was replaced")
            try:
                self._line.send((method, *arguments))
                # A process that has just begun imports and makes things first: no step is slow for that.
                if not self._line.poll(self._timeout if self._timeout and method in ("reset", "step") else None):
                    self._replace()
                    raise Fault("timeout", f"no answer within {self._timeout:g} s; its process was ended")
                done, answer = self._line.recv()
            except (EOFError, OSError) as error:
                self._process.join(1)
                code = self._process.exitcode
                self._replace()
                raise Fault("died", f"its process ended with exit code {code}") from error
        if not done:
            kind, message, trace = answer
            raise Fault(kind, message) from RuntimeError(trace)
        return answer

    def number(self) -> int:
        """A name for a new copy."""
        return next(self._numbers)

    def _replace(self) -> None:
        self._ending()
        self.generation += 1
        self._start()

    def close(self) -> None:
        self._ending()


def _end(process: Any, line: Connection) -> None:
    process.kill()
    process.join()
    line.close()


class _Remote:
    """A copy in a worker; made anew by ``reset`` if the worker was replaced since."""

    def __init__(self, worker: _Worker) -> None:
        self._worker, self._number = worker, worker.number()
        self._generation = -1

    def reset(self, *, seed: int | None = None, options: Mapping[str, object] | None = None) -> Any:
        if self._generation != self._worker.generation:
            generation = self._worker.generation
            self._worker.call(generation, "make", self._number)
            self._generation = generation
        return self._worker.call(self._generation, "reset", self._number, seed, options)

    def step(self, utterance: str) -> Any:
        return self._worker.call(self._generation, "step", self._number, utterance)

    def close(self) -> None:
        if self._generation == self._worker.generation:
            self._worker.call(self._generation, "close", self._number)


def _serve(line: Connection, make_env: Callable[[], Environment]) -> None:
    """Answer calls for copies of an environment until the line is closed."""
    _end_with_parent()
    sys.stdout = sys.stderr  # results of the command go there, chatter does not
    copies: dict[int, Environment] = {}
    loop = asyncio.new_event_loop()

    def finished(answer: Any) -> Any:
        return loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer

    def answer(method: str, number: int, *arguments: Any) -> Any:
        if method == "make":
            copies[number] = make_env()
            return None
        if method == "close":
            return close(copies.pop(number))
        if method == "reset":
            return check_reset(finished(begin_episode(copies[number], *arguments)))
        return check_step(finished(copies[number].step(*arguments)))

    while True:
        try:
            call = line.recv()
        except (EOFError, OSError):
            return
        try:
            reply = pickle.dumps((True, answer(*call)))
        except Exception as error:
            fault = fault_of(error)
            reply = pickle.dumps((False, (fault.kind, str(fault), traceback.format_exc())))
        try:
            line.send_bytes(reply)
        except (BrokenPipeError, OSError):
            return


def _end_with_parent() -> None:
    """Let no process outlive the run, however that ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the run's business, which then closes the line
    parent = multiprocessing.parent_process()
    assert parent is not None, "only started by another"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
