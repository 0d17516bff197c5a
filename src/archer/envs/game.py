"""What the built-in games share: a seed, a limit of turns, and an end after which nothing more can be said."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archer.envs.base import NOT_UNDER_WAY, ScriptedTask, play_scripted
from archer.seeds import is_evaluation
from archer.types import Observation


@dataclass(frozen=True)
class Reply:
    """What a game says to an utterance."""

    observation: Observation
    reward: float
    over: bool = False
    """Whether the task itself is at its end."""
    info: Mapping[str, object] = field(default_factory=dict)


class Game(ABC):
    """A text environment of one player; a task is the two methods ``begin`` and ``hear``.

    max_turns: turns after which a game that is not over is truncated, at least 1. The limit is ours, not the task's.
    """

    def __init__(self, max_turns: int) -> None:
        self.max_turns = at_least("max_turns", max_turns, 1)
        self._turn = 0
        self._playing = False

    @abstractmethod
    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Set up a new game and say its first observation.

        chance: all randomness of the game. held_out: whether the game is one to measure by, not to learn from; tasks
        that have instructions of both kinds keep them apart by it.
        """

    @abstractmethod
    def hear(self, utterance: str) -> Reply:
        """Answer an utterance."""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Begin the game that ``seed`` draws. Odd seeds are those of evaluations."""
        self._turn, self._playing = 0, False
        observation = self.begin(random.Random(seed), options or {}, held_out=is_evaluation(seed))
        self._playing = True
        return observation, {}

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, dict[str, object]]:
        """Say something. Raises RuntimeError where no game is under way."""
        if not self._playing:
            raise RuntimeError(NOT_UNDER_WAY)
        self._turn += 1
        reply = self.hear(utterance)
        truncated = not reply.over and self._turn >= self.max_turns
        self._playing = not (reply.over or truncated)
        return reply.observation, reply.reward, reply.over, truncated, dict(reply.info)


def mean_return(task: ScriptedTask, starts: Sequence[Mapping[str, object]]) -> float:
    """Mean return of the reference over one game for each of ``starts``, the options of ``reset``."""
    games = [play_scripted(task, task.reference(0), seed=0, options=options) for options in starts]
    return sum(game.return_ for game in games) / len(games)


def at_least(name: str, value: object, least: int) -> int:
    """A whole number of an option; ValueError naming it where it is none or too small."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    """One of an option's values; ValueError naming it and what would do."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return str(value)
