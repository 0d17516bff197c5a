"""A seat at the table: one environment, replaced by a fresh copy where it fails; and the account of all failures."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from archer.envs.base import Environment, StepResult, check_reset, check_step, close
from archer.envs.faults import Fault, Kind, fault_of
from archer.types import Observation

R = TypeVar("R")

LOSSES = 20
"""Most times that a game goes on elsewhere after its process was ended through another's fault."""


class EnvironmentFailure(RuntimeError):
    """Too many games failed in their environments; the message says which, how and how often, the first is chained."""


class GivenUp(Exception):
    """A game cannot go on."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True)
class Tally:
    """What failed in some games, as plain values."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Failures by kind."""
    failed: int = 0
    """Games that could not go on."""
    dropped: int = 0
    """Those of them that had no finished turn to keep."""
    first: str = ""
    """The first failure, in words."""
    begun: int = 0
    """Games that have begun."""


class Faults:
    """What failed in a number of games.

    Where too many have failed, it raises EnvironmentFailure; ValueError where that is no environment's fault: none has
    begun, as what all said first was too long for the settings.
    games: how many are to be played. allowed: share of them that may fail.
    """

    def __init__(self, games: int, allowed: float) -> None:
        self.counts: Counter[str] = Counter()
        """Failures by kind, those that a fresh copy made good among them."""
        self.failed = 0
        """Games that could not go on."""
        self.dropped = 0
        """Those of them that had no finished turn to keep."""
        self.begun = 0
        """Games that have begun."""
        self._games, self._allowed = games, allowed
        self._first: Fault | None = None
        self._where = ""
        self._lock = threading.Lock()

    def note(self, fault: Fault, seed: int, turn: int) -> None:
        """Count a failure; no blame on who was ended through another's."""
        if fault.kind == "lost":
            return
        with self._lock:
            self.counts[fault.kind] += 1
            if self._first is None:
                self._first, self._where = fault, f"in the game with seed {seed}, turn {turn}: {fault}"

    def begin(self) -> None:
        """Count a game that has begun."""
        with self._lock:
            self.begun += 1

    def give_up(self, *, dropped: bool) -> None:
        """Count a game that cannot go on; raises where they have become too many."""
        with self._lock:
            self.failed += 1
            self.dropped += dropped
            self._check()

    def settle(self, tallies: Sequence[Tally]) -> None:
        """Take all that has been counted anywhere, here too, for one's own; raises where it is too much."""
        self.counts.clear()
        self.failed, self.dropped, self.begun, self._where = 0, 0, 0, ""
        for tally in tallies:
            self.add(tally)

    def _check(self) -> None:
        if self.failed and (self.failed > self._allowed * self._games or self.failed == self._games):
            if not self.begun and self.counts.keys() == {"too_long"}:
                raise ValueError(f"no game can begin; {self._where}") from self._first
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.most_common())
            raise EnvironmentFailure(
                f"the environment failed in {self.failed} of {self._games} games ({kinds}; more than "
                f"rollout.max_failures={self._allowed:g} of them stop the run), first {self._where}"
            ) from self._first

    @property
    def tally(self) -> Tally:
        """The account as a record, for whoever adds several up."""
        return Tally(dict(self.counts), self.failed, self.dropped, self._where, self.begun)

    def add(self, tally: Tally) -> None:
        """Add the account of some of the games; raises where too many have failed."""
        self.counts.update(tally.counts)
        self.failed += tally.failed
        self.dropped += tally.dropped
        self.begun += tally.begun
        self._where = self._where or tally.first
        self._check()

    @property
    def metrics(self) -> dict[str, float]:
        """Counts under ``rollout/``; nothing where nothing failed."""
        if not self.counts:
            return {}
        found = {f"rollout/env_{kind}": float(count) for kind, count in sorted(self.counts.items())}
        return found | {"rollout/env_failed": float(self.failed), "rollout/env_dropped": float(self.dropped)}


class Seat:
    """Where games are played one after another.

    make_env: makes copies. retries: how often a call that failed is tried again on a fresh copy, which is first brought
        to where the other was by saying the same once more; where it then answers otherwise, the game is given up.
    """

    def __init__(self, make_env: Callable[[], Environment], faults: Faults, retries: int) -> None:
        self._make_env, self.faults, self._retries = make_env, faults, retries
        self._env: Environment | None = None

    def reset(self, seed: int) -> Observation:
        """Begin the game of ``seed``: its first observation. Raises GivenUp."""
        return self._persist(lambda env, again: check_reset(env.reset(seed=seed))[0], seed, 0)

    def step(self, seed: int, said: Sequence[str], heard: Sequence[Observation], utterance: str) -> StepResult:
        """Say ``utterance`` after all that was ``said`` and ``heard`` (the first observation too). Raises GivenUp."""

        def call(env: Environment, again: bool) -> StepResult:
            if again:
                _catch_up(env, seed, said, heard)
            return check_step(env.step(utterance))

        return self._persist(call, seed, len(said) + 1)

    def close(self) -> None:
        """Done with the environment."""
        if self._env is not None:
            with suppress(Exception):  # whatever it has to say, nobody needs it any more
                close(self._env)
            self._env = None

    def _persist(self, call: Callable[[Environment, bool], R], seed: int, turn: int) -> R:
        tries, losses = 0, 0
        while True:
            again = self._env is None
            try:
                if self._env is None:
                    self._env = self._make_env()
                return call(self._env, again)
            except Exception as error:
                fault = fault_of(error)
                if fault is not error:
                    fault.__cause__ = error
                self.faults.note(fault, seed, turn)
                self.close()
                losses += fault.kind == "lost"
                tries += fault.kind != "lost"
                if tries > self._retries or losses > LOSSES:
                    raise GivenUp(fault.kind) from fault


def _catch_up(env: Environment, seed: int, said: Sequence[str], heard: Sequence[Observation]) -> None:
    """Bring a fresh copy to where the game was."""
    observation, _ = check_reset(env.reset(seed=seed))
    for utterance, (before, after) in zip(said, pairwise(heard), strict=True):
        if observation != before:
            break
        observation, _, terminated, truncated, _ = check_step(env.step(utterance))
        if observation != after or terminated or truncated:
            break
    else:
        if observation == heard[-1]:
            return
    raise Fault("exception", "a fresh copy answers otherwise than the one that failed: the game cannot be gone on with")
