"""The ledger and the players as Ray runs them: each an actor, in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from archer.cluster.ledger import Ledger, Verdict
from archer.cluster.records import CLOSED, Delivery, Entry, Terms, Work
from archer.extras import need

T = TypeVar("T")

PATIENCE_S = 2.0
"""How long a question may lie at the ledger until there is an answer; then it is asked again."""
FENCE_S = 120.0
"""How long a ledger waits for the one before it to be gone."""


class LedgerActor:
    """The ledger of a run. Who asks for what is not there yet is answered when it is, or after a while with None."""

    def __init__(self, folder: Path, terms: Terms, iteration: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # A ledger whose learner was killed may live on for a moment: two would not know of each other.
        self._lock = FileLock(str(folder / "lock"))
        self._lock.acquire(timeout=FENCE_S)
        self._ledger = Ledger(folder, terms, iteration)
        self._weights: list[Any] = []
        self._publication = 0
        self._closed = False
        self._stirred = asyncio.Event()

    async def publish(self, publication: int, iteration: int | None, weights: list[Any]) -> tuple[set[str], int]:
        """Let players play with these weights (in a list, or Ray would send them here): players that have asked so far,
        and deliveries kept. Said again and again, as a ledger that was restarted has forgotten it."""
        if publication > self._publication:  # an older one may come late
            self._ledger.publish(publication, iteration)
            self._publication, self._weights = publication, weights
            self._stir()
        return self._ledger.seen, self._ledger.counts["kept"]

    async def take(self, iteration: int) -> list[Entry] | None:
        found = await self._until(lambda: self._ledger.take(iteration))
        self._stir()
        return found

    async def measure(self, job: int, parts: list[list[int]], best_of: int, known: int) -> list[Delivery] | int | None:
        """The games of an evaluation, in parts; before that, how many parts have come in, when it is more than is
        ``known``. Whoever asks first has them begin, and after a restart, anew."""
        if not self._publication:
            return None
        self._ledger.submit(job, parts, best_of)
        self._stir()
        found = await self._until(lambda: r if len(r := self._ledger.results(job)) != known else None)
        return None if found is None else found if len(found) == len(parts) else len(found)

    async def ask(self, player: str, publication: int) -> tuple[Work, list[Any]] | None:
        """Something to play, with the weights where the player has others; `CLOSED` when all is over."""
        work = await self._until(lambda: Work(CLOSED, 0) if self._closed else self._ledger.ask(player))
        if work is None:
            return None
        return work, [] if publication == self._publication else self._weights

    async def deliver(self, delivery: Delivery) -> Verdict:
        verdict = self._ledger.deliver(delivery)
        self._stir()
        return verdict

    async def gone(self, player: str) -> None:
        self._ledger.gone(player)
        self._stir()

    async def close(self) -> None:
        """Send everybody home."""
        self._closed = True
        self._stir()

    def _stir(self) -> None:
        """Something has happened: whoever waits may look again."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def _until(self, attempt: Callable[[], T | None]) -> T | None:
        deadline = time.monotonic() + PATIENCE_S
        while (found := attempt()) is None and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._stirred.wait(), left)
            except TimeoutError:
                break
        return found


class PlayerActor:
    """A player at work."""

    def __init__(self, kit: Any, name: str) -> None:
        from archer.cluster.player import Player  # with torch, which the ledger can do without

        self._player = Player(kit, name)

    def serve(self, ledger: Any) -> None:
        """Ask, play and deliver until all is over."""
        ray = need("ray", "cluster")
        while True:
            answer = ray.get(ledger.ask.remote(self._player.name, self._player.publication))
            if answer is None:
                continue
            work, weights = answer
            if work.job == CLOSED:
                self._player.close()
                return
            if weights:
                self._player.take_over(ray.get(weights[0]))
            ray.get(ledger.deliver.remote(self._player.play(work)))
