"""What adapters share: commands as interpreters of text games take them, and players of what is possible."""

from __future__ import annotations

import random
from collections.abc import Iterable

from archer.types import Observation


def command_of(utterance: str) -> str:
    """The first line of an utterance as a command: plain characters, and no more than interpreters have room for."""
    line = next(iter(utterance.strip().splitlines()), "")
    return " ".join("".join(c for c in line if c.isascii() and c.isprintable()).split())[:100]


def clean(text: str) -> str:
    """A game's answer without its prompt, status line and empty lines."""
    lines = [" ".join(line.split()) for line in text.partition("\n>")[0].splitlines()]
    return "\n".join(line for line in lines if line)


def level_of(chance: random.Random, levels: int, behind: int, *, held_out: bool) -> int:
    """Number of the level that chance draws: one of the first ``levels``, or for a ``held_out`` game one of those
    ``behind`` them; where there are none, one of ``levels`` for both."""
    return levels + chance.randrange(behind) if held_out and behind else chance.randrange(levels)


def listed(commands: Iterable[str]) -> str:
    """The line that tells an agent what it can do."""
    return f"Possible: {', '.join(commands)}."


class AnyPossible:
    """A player that says any of the commands that were listed last, at random."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def __call__(self, observation: Observation) -> str:
        _, found, commands = str(observation).rpartition("Possible: ")
        return self._chance.choice(commands.rstrip(".").split(", ") if found else ["look"])
