"""Keep every conversation of every past policy, and draw from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from archer.types import Episode


class Replay:
    """The newest episodes that together hold at most ``capacity`` turns; with capacity 0, what was added last."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.turns = 0
        self._all: list[Episode] = []
        self._first = 0  # those before it are forgotten; a list is indexed at once, where a deque walks

    def add(self, episodes: Iterable[Episode]) -> None:
        """Append episodes and forget the oldest beyond capacity; the newest one always stays."""
        if self.capacity == 0:
            self._all, self._first, self.turns = [], 0, 0
        for episode in episodes:
            self._all.append(episode)
            self.turns += len(episode)
        while 0 < self.capacity < self.turns and len(self) > 1:
            self.turns -= len(self._all[self._first])
            self._first += 1
        if 2 * self._first > len(self._all):
            self._all, self._first = self._all[self._first :], 0

    def sample(self, turns: int, generator: np.random.Generator, newest: int | None = None) -> list[Episode]:
        """Episodes drawn uniformly, without repeats, until they hold ``turns`` turns (or all there are).

        With ``newest`` only the newest episodes that together hold that many turns are drawn from.
        """
        if not len(self):
            raise ValueError("cannot sample from an empty replay: add episodes first")
        return draw(self if newest is None else self.newest(newest), turns, generator)

    def newest(self, turns: int) -> list[Episode]:
        """The newest episodes that together hold ``turns`` turns, newest first."""
        found: list[Episode] = []
        held = 0
        for index in range(len(self._all) - 1, self._first - 1, -1):
            found.append(self._all[index])
            held += len(found[-1])
            if held >= turns:
                break
        return found

    def best(self, fraction: float) -> list[Episode]:
        """The top ``fraction`` of episodes by return, best first and of equals the newest; exactly that many of those
        that did not fail."""
        newest_first = self._all[self._first :][::-1]
        played = [episode for episode in newest_first if not episode.failed] or newest_first
        count = max(1, round(fraction * len(played)))
        return sorted(played, key=lambda episode: episode.return_, reverse=True)[:count]

    def __len__(self) -> int:
        return len(self._all) - self._first

    def __iter__(self) -> Iterator[Episode]:
        return iter(self._all[self._first :])

    def __getitem__(self, index: int) -> Episode:
        """The episode at ``index``, counted from the oldest that is held."""
        return self._all[self._first + index]


def draw(pool: Sequence[Episode] | Replay, turns: int, generator: np.random.Generator) -> list[Episode]:
    """Episodes drawn uniformly from ``pool``, without repeats, until they hold ``turns`` turns (or all there are).

    The work does not grow with the pool.
    """
    drawn: dict[int, Episode] = {}
    total = 0
    while total < turns and len(drawn) < len(pool):
        index = int(generator.integers(len(pool)))
        if index not in drawn:
            drawn[index] = pool[index]
            total += len(drawn[index])
    return list(drawn.values())
