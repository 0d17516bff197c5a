"""The crew: as many players as wanted or as there is room for, watched by a thread that replaces whoever dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from archer.cluster.actors import PlayerActor

WATCH_S = 0.5
"""Seconds between looks at the crew."""
FUTILE = 5
"""Players that may die one after another, or a whole crew of them twice, before one has delivered anything."""
LONELY_S = 60.0
"""Seconds between complaints that there is no room for a single player."""


class Crew:
    """Players of one run, each told to serve the ledger until it closes.

    wanted: how many; None for one per free processor (and GPUs, where they need some). greet: called at each look;
        gives the players that have asked the ledger for work, and how many deliveries it has kept.
    """

    def __init__(
        self,
        ray: Any,
        ledger: Any,
        kit: Any,
        wanted: int | None,
        gpus: float,
        greet: Callable[[], tuple[set[str], int]],
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._ledger, self._kit = ray, ledger, kit
        self._wanted, self._gpus, self._greet, self._say = wanted, gpus, greet, say
        # Spread, not a placement group: that is a fixed number of places, and here players come and go.
        self._actor = ray.remote(num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")(PlayerActor)
        self._players: dict[Any, tuple[str, Any]] = {}  # by what their service will return: name, actor
        self._hired = 0
        self._deaths, self._kept = 0, -1
        self._last_heard = time.monotonic()
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Players that are there or on their way."""
        return len(self._players)

    def check(self) -> None:
        """Raise what stopped the players, if something did."""
        if self._failure is not None:
            raise self._failure

    def dismiss(self, patience: float) -> None:
        """Send all players home; those that are still playing after so many seconds are stopped."""
        self._over.set()
        self._thread.join()
        if self._players and self._failure is None:
            self._ray.wait(list(self._players), num_returns=self.size, timeout=patience)
        for _, player in self._players.values():
            self._ray.kill(player)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except BaseException as error:
                self._failure = cause_of(error)
                return
            self._over.wait(WATCH_S)

    def _look(self) -> None:
        seen, kept = self._greet()
        if kept != self._kept:
            self._deaths, self._kept = 0, kept
        for service in self._ray.wait(list(self._players), num_returns=self.size, timeout=0)[0] if self.size else ():
            self._bury(service)
        arriving = sum(name not in seen for name, _ in self._players.values())
        room = self._room() - arriving
        for _ in range(room if self._wanted is None else min(room, self._wanted - self.size)):
            self._hire()
        if self.size:
            self._last_heard = time.monotonic()
        elif time.monotonic() - self._last_heard > LONELY_S:
            self._last_heard = time.monotonic()
            self._say("no player: the cluster has no free processor" + (" with a free GPU" if self._gpus else ""))

    def _bury(self, service: Any) -> None:
        """Find out why a player has left, and have what it had in hand played by others."""
        name, _ = self._players.pop(service)
        try:
            self._ray.get(service)
            return  # sent home
        except self._ray.exceptions.RayError as error:
            cause = cause_of(error)
            if not isinstance(cause, self._ray.exceptions.RayError):
                raise
        self._ray.get(self._ledger.gone.remote(name))
        self._deaths += 1
        self._say(f"{name} is gone; others play on")
        if self._deaths >= max(FUTILE, 2 * (self.size + 1)):
            raise RuntimeError(
                f"{self._deaths} players died one after another and none delivered a game; the last one: {cause}"
            )

    def _room(self) -> int:
        """Players that the cluster has free resources for."""
        free = self._ray.available_resources()
        room = free.get("CPU", 0.0) - (self._wanted is None)  # one is left for the learner
        return max(0, int(min(room, free.get("GPU", 0.0) / self._gpus) if self._gpus else room))

    def _hire(self) -> None:
        self._hired += 1
        name = f"player-{self._hired}"
        player = self._actor.remote(self._kit, name)
        self._players[player.serve.remote(self._ledger)] = name, player


def cause_of(error: BaseException) -> BaseException:
    """What was raised in an actor, from under Ray's wrappings."""
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    return error
