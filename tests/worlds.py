"""Environments made for tests."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from typing import Any

from archer.envs.base import Player
from archer.seeds import demonstration_seed


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


class Misbehaving(Echo):
    """Echo, whose games with even seeds go wrong at every step.

    fault: ``raise``, ``hang``, ``nan``, ``shape``, ``object``, ``huge``, ``die``; ``reset`` raises there.
    """

    FAULTS = ("raise", "hang", "nan", "shape", "object", "huge", "die", "reset")

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def goes_wrong(self) -> str:
        """The fault of this step, if it has one."""
        return self.fault if self.seed % 2 == 0 else ""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        first = super().reset(seed=seed)
        if self.goes_wrong() == "reset":
            raise KeyError("the shop is closed")
        return first

    def step(self, utterance: str) -> tuple[Any, Any, Any, Any, Any]:
        observation, reward, terminated, truncated, info = super().step(utterance)
        match self.goes_wrong():
            case "raise":
                raise KeyError("the shop is closed")
            case "hang":
                time.sleep(600)
            case "nan":
                reward = float("nan")
            case "shape":
                return observation, reward  # type: ignore[return-value]
            case "object":
                observation = object()  # type: ignore[assignment]
            case "huge":
                observation = "x" * 10_000_000
            case "die":
                os._exit(3)
        return observation, reward, terminated, truncated, info


class Mixed(Misbehaving):
    """One game of ten goes wrong, at its second turn of three, in each of the ways in turn."""

    def goes_wrong(self) -> str:
        if self.seed % 10 != 7 or (self.turn != 2 and self.fault_of(self.seed) != "reset"):
            return ""
        return self.fault_of(self.seed)

    @classmethod
    def fault_of(cls, seed: int) -> str:
        return cls.FAULTS[seed // 10 % len(cls.FAULTS)]


class Flaky(Echo):
    """Echo; every eleventh step of all copies together fails."""

    steps = 0

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        Flaky.steps += 1
        if Flaky.steps % 11 == 0:
            raise ConnectionError("try again")
        return super().step(utterance)


class Slow(TwoSteps):
    """TwoSteps, whose answers take so many seconds, until there is a file of this name."""

    def __init__(self, seconds: float = 0.5, until: str = "") -> None:
        self.seconds, self.until = seconds, until

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        if not (self.until and os.path.exists(self.until)):
            time.sleep(self.seconds)
        return super().step(utterance)


SHOWN = {demonstration_seed(0, game) for game in range(64)}
"""What a small run is shown."""


class Broken(TwoSteps):
    """TwoSteps, whose demonstrations are well and whose games are not: they ``raise``, or begin too ``long``."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.broken = seed not in SHOWN
        first, info = super().reset(seed=seed)
        return first * 100 if self.broken and self.fault == "long" else first, info

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        if self.broken and self.fault == "raise":
            raise KeyError("the shop is closed")
        return super().step(utterance)
