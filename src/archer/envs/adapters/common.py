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


def level_of(seed: int | None, levels: int, held_out: int) -> int:
    """Number of the level that a seed draws: one of the first ``levels`` for an even seed, to learn from, and one of
    the ``held_out`` behind them for an odd one, to measure by; where none are held out, one of ``levels`` for both."""
    chance = random.Random(seed)
    return levels + chance.randrange(held_out) if held_out and (seed or 0) % 2 else chance.randrange(levels)


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
