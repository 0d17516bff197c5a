"""Keep every conversation of every past policy, and draw from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from archer.types import Episode


class Replay:
    """The newest episodes that together hold at most ``capacity`` turns; with capacity 0, what was added last."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.turns = 0
        self._episodes: deque[Episode] = deque()

    def add(self, episodes: Iterable[Episode]) -> None:
        """Append episodes and forget the oldest beyond capacity; the newest one always stays."""
        if self.capacity == 0:
            self._episodes.clear()
            self.turns = 0
        for episode in episodes:
            self._episodes.append(episode)
            self.turns += len(episode)
        while 0 < self.capacity < self.turns and len(self._episodes) > 1:
            self.turns -= len(self._episodes.popleft())

    def sample(self, turns: int, generator: np.random.Generator, newest: int | None = None) -> list[Episode]:
        """Episodes drawn uniformly, without repeats, until they hold ``turns`` turns (or all there are).

        With ``newest`` only the newest episodes that together hold that many turns are drawn from.
        """
        if not self._episodes:
            raise ValueError("cannot sample from an empty replay: add episodes first")
        return draw(self._episodes if newest is None else self.newest(newest), turns, generator)

    def newest(self, turns: int) -> list[Episode]:
        """The newest episodes that together hold ``turns`` turns, newest first."""
        found: list[Episode] = []
        held = 0
        for episode in reversed(self._episodes):
            found.append(episode)
            held += len(episode)
            if held >= turns:
                break
        return found

    def latest(self, count: int) -> list[Episode]:
        """The ``count`` newest episodes, oldest of them first."""
        return list(self._episodes)[-count:]

    def best(self, fraction: float) -> list[Episode]:
        """The top ``fraction`` of episodes by return, best first and of equals the newest; exactly that many."""
        count = max(1, round(fraction * len(self._episodes)))
        newest_first = list(self._episodes)[::-1]
        return sorted(newest_first, key=lambda episode: episode.return_, reverse=True)[:count]

    def __len__(self) -> int:
        return len(self._episodes)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self._episodes)


def draw(pool: Sequence[Episode], turns: int, generator: np.random.Generator) -> list[Episode]:
    """Episodes drawn uniformly from ``pool``, without repeats, until they hold ``turns`` turns (or all there are)."""
    drawn: list[Episode] = []
    total = 0
    for index in generator.permutation(len(pool)):
        if total >= turns:
            break
        drawn.append(pool[int(index)])
        total += len(drawn[-1])
    return drawn
