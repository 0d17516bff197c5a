"""Guess a number: the smallest task with something to find out; halving is best."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache

from archer.envs.base import Player
from archer.envs.game import Game, Reply, at_least, mean_return
from archer.types import Observation

HIGHER, LOWER = "Higher.", "Lower."


class GuessNumber(Game):
    """-1 per wrong guess of a number from 1 to ``highest``, 0 for the right one.

    highest: the largest number that may be meant, at least 2.
    max_turns: guesses of a game, at least 1.
    """

    def __init__(self, highest: int = 20, max_turns: int = 10) -> None:
        super().__init__(max_turns)
        self.highest = at_least("highest", highest, 2)
        self._secret = 0

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Draw the number, or take ``options["target"]``."""
        target = options.get("target")
        if target is not None and (type(target) is not int or not 1 <= target <= self.highest):
            raise ValueError(f"options: target must be a whole number from 1 to {self.highest}, got {target!r}")
        self._secret = target if isinstance(target, int) else chance.randint(1, self.highest)
        return f"Guess a number from 1 to {self.highest}."

    def hear(self, utterance: str) -> Reply:
        """Whether the number is higher or lower."""
        text = utterance.strip()
        info = {"success": False, "target": self._secret}
        if not (text.isascii() and text.isdigit()):
            return Reply("That is no number.", -1.0, info=info)
        guess = int(text[:9])
        if guess == self._secret:
            return Reply("Right.", 0.0, over=True, info=info | {"success": True})
        return Reply(HIGHER if guess < self._secret else LOWER, -1.0, info=info)

    def demonstrator(self, seed: int) -> Player:
        """Guesses at random; every second time it heeds what it heard."""
        return _Guesser(self.highest, random.Random(seed))

    def reference(self, seed: int) -> Player:
        """Halves; ``seed`` is not used."""
        return _Guesser(self.highest, None)

    def reference_return(self) -> float:
        """Mean return of halving over all numbers."""
        return _reference_return(self.highest, self.max_turns)


class _Guesser:
    """Keeps the numbers that are possible; halves them, or with ``chance`` guesses like people do."""

    def __init__(self, highest: int, chance: random.Random | None) -> None:
        self._chance = chance
        self._highest = highest
        self._low, self._high = 1, highest
        self._said = 0

    def __call__(self, observation: Observation) -> str:
        if observation == HIGHER:
            self._low = max(self._low, self._said + 1)
        elif observation == LOWER:
            self._high = min(self._high, self._said - 1)
        if self._chance is None:
            self._said = (self._low + self._high) // 2
        else:
            heeds = self._chance.random() < 0.5
            self._said = self._chance.randint(*((self._low, self._high) if heeds else (1, self._highest)))
        return str(self._said)


@lru_cache
def _reference_return(highest: int, max_turns: int) -> float:
    return mean_return(GuessNumber(highest, max_turns), [{"target": target} for target in range(1, highest + 1)])
