"""Environments made for tests."""

from __future__ import annotations

import random
from collections.abc import Mapping

from archer.envs.base import Player


class Echo:
    """Counts how often it was spoken to; the seed decides after how many turns it ends, odd ones by truncation."""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.seed = seed or 0
        self.last = 1 + self.seed % 5
        self.turn = 0
        return "Say a word.", {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        self.turn += 1
        over = self.turn == self.last
        ends = self.seed % 2 == 0
        return f"You said {self.turn} words.", float(self.turn), over and ends, over and not ends, {"said": utterance}


class TwoSteps:
    """Say a colour, then another: only the *first* choice matters, and it is paid at the end.

    The right first word is always ``red``; reward 1 at the end if it was said, else 0.
    """

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.said: list[str] = []
        return "First?", {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        self.said.append(utterance)
        over = len(self.said) == 2
        won = self.said[0] == "red"
        return "Then?", float(over and won), over, False, {"success": won}

    def demonstrator(self, seed: int) -> Player:
        choice = random.Random(seed)
        return lambda observation: choice.choice(["red", "green", "blue", "yellow"])

    def reference(self, seed: int) -> Player:
        return lambda observation: "red"

    def reference_return(self) -> float:
        return 1.0


class Guess:
    """One word of four, drawn from the seed, to be guessed at once; the demonstrator draws its own in the same way."""

    WORDS = ("red", "green", "blue", "yellow")

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.secret = random.Random(seed).choice(self.WORDS)
        return "Which?", {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        won = utterance == self.secret
        return "Right." if won else "Wrong.", float(won), True, False, {"success": won}

    def demonstrator(self, seed: int) -> Player:
        choice = random.Random(seed)
        return lambda observation: choice.choice(self.WORDS)


class Bandit:
    """Two arms and one pull: ``red`` pays 1 in nine games of ten, ``green`` in one."""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.luck = random.Random(seed).random()
        return "Which arm?", {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        chance = {"red": 0.9, "green": 0.1}.get(utterance, 0.0)
        return "Pulled.", float(self.luck < chance), True, False, {}

    def demonstrator(self, seed: int) -> Player:
        choice = random.Random(seed)
        return lambda observation: choice.choice(["red", "green"])
