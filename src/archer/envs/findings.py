"""What a check of an environment finds, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "error"]

MEND = {
    "contract": "see the message, and the environment's section of the documentation",
    "failure": "it was raised by the environment itself: call it by hand, with this seed and these words",
    "end": "a run truncates games after rollout.max_turns; better is truncated=True from the environment itself",
    "any text": "an agent says anything: answer what makes no sense with a message and a small reward",
    "seeding": "draw from a random.Random(seed) made in reset, never from a global generator: runs must be repeatable",
    "variety": "is that meant? let reset(seed=...) draw something",
    "reuse": "reset must begin everything anew",
    "after the end": "raise an error when step is called without reset: mistakes show sooner",
    "rewards": "there is nothing to learn yet where all games return the same",
    "text": "a model reads every character: clean them, and give rollout.max_tokens room for a whole game",
    "history": "an observation should be what is new; or set rollout.history=replace",
    "processes": "put the class into a module, and name it package.module:Name",
    "speed": "let it answer while others are decoded: rollout.workers=8",
    "lines": "the default layout of prompts is for one line: set rollout.layout=plain",
    "players": "the built-in tiny model needs one; else name a model in model.actor, or conversations (--offline)",
}
"""How to mend what is found."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    check: str
    message: str
    """What was found."""

    @property
    def mend(self) -> str:
        """What to do about it, where there is something to do."""
        return "" if self.level == "ok" else MEND.get(self.check, "")
