"""Scripted players: an information-gain questioner to measure against, and a casual one to learn from."""

from __future__ import annotations

import random
from functools import lru_cache

from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.grammar import AsksFor, Guesses, understand
from archer.envs.twenty_questions.oracle import INVALID, YES
from archer.types import Observation

EXACT_BELOW = 10
"""Up to this many candidates the rest of the game is solved exactly."""

SLIPS = ("Is it nice?", "Is it popular?", "Do you like it?", "What is it?", "Is it old or new?")
"""Questions that have no answer in the table; people ask them, and an agent must have met ``Invalid Question.``."""


@lru_cache(maxsize=200_000)
def _solve(candidates: frozenset[str]) -> tuple[float, str]:
    """Expected number of questions that do not win from here on, under best play, and the best question to ask.

    Exact for small sets; larger ones look one question ahead and then assume even splits.
    """
    count = len(candidates)
    ordered = sorted(candidates)
    if count == 1:
        return 0.0, _guess(ordered[0])
    cost = _solve_cost if count <= EXACT_BELOW else _even_split_cost
    rest = candidates - {ordered[0]}
    best = (1 + cost(rest)) * len(rest) / count, _guess(ordered[0])
    if count <= EXACT_BELOW:
        for name in ordered[1:]:
            rest = candidates - {name}
            best = min(best, ((1 + cost(rest)) * len(rest) / count, _guess(name)), key=lambda option: option[0])
    facts = load_facts()
    seen: set[frozenset[str]] = set()
    for attribute, members in facts.true_of.items():
        yes = candidates & members
        if not yes or len(yes) == count or yes in seen:
            continue
        seen.add(yes)
        no = candidates - yes
        expected = 1 + (len(yes) * cost(yes) + len(no) * cost(no)) / count
        if expected < best[0] - 1e-12:
            best = expected, facts.questions[attribute][0]
    return best


def _solve_cost(candidates: frozenset[str]) -> float:
    return _solve(candidates)[0]


def _even_split_cost(candidates: frozenset[str]) -> float:
    return _even_cost(len(candidates))


@lru_cache(maxsize=None)
def _even_cost(count: int) -> float:
    """The same cost where every set can be split in halves."""
    if count == 1:
        return 0.0
    half = count // 2
    guess = (1 + _even_cost(count - 1)) * (count - 1) / count
    split = 1 + (half * _even_cost(half) + (count - half) * _even_cost(count - half)) / count
    return min(guess, split)


def _guess(name: str) -> str:
    return f"Is it {name}?" if name.endswith("s") else f"Is it {'an' if name[0] in 'aeiou' else 'a'} {name}?"


class _Listener:
    """Keeps the objects that are still possible after every answer heard."""

    def __init__(self, objects: tuple[str, ...]) -> None:
        self.candidates = frozenset(objects)
        self.asked: str | None = None

    def hear(self, observation: Observation) -> None:
        if self.asked is None or observation == INVALID:
            return
        match understand(self.asked):
            case AsksFor(attribute):
                members = load_facts().true_of[attribute]
            case Guesses(name):
                members = frozenset([name])
            case _:
                return
        left = self.candidates & members if observation == YES else self.candidates - members
        self.candidates = left or self.candidates  # an oracle that errs must not silence us


class InformedQuestioner:
    """Asks what leaves the fewest questions to be expected: a strong reference, exact on small sets."""

    def __init__(self, objects: tuple[str, ...]) -> None:
        self._listener = _Listener(objects)

    def __call__(self, observation: Observation) -> str:
        self._listener.hear(observation)
        _, question = _solve(self._listener.candidates)
        self._listener.asked = question
        return question


@lru_cache(maxsize=32)
def reference_return(objects: tuple[str, ...]) -> float:
    """Mean return of ``InformedQuestioner`` over all objects, one game each, without a turn limit."""
    from archer.envs.base import play_scripted
    from archer.envs.twenty_questions.env import TwentyQuestions

    total = 0.0
    for target in objects:
        env = TwentyQuestions([target], max_turns=len(objects) + 100)
        total += sum(play_scripted(env, InformedQuestioner(objects), seed=0).rewards)
    return total / len(objects)


class CasualQuestioner:
    """Plays as people do: narrows down more or less, forgets answers, repeats itself, guesses too early.

    drift: chance of a question chosen without regard to what is known.
    hunch: chance of a guess while many objects are possible.
    memory: chance that an answer is taken in at all.
    slip: chance of a question that no table of facts can answer.
    patience: with at most this many candidates left it guesses one of them.
    """

    def __init__(
        self,
        objects: tuple[str, ...],
        seed: int,
        *,
        drift: float = 0.45,
        hunch: float = 0.12,
        memory: float = 0.8,
        patience: int = 2,
        slip: float = 0.03,
    ) -> None:
        self._random = random.Random(seed)
        self._objects = objects
        self._listener = _Listener(objects)
        self._drift, self._hunch, self._memory, self._patience, self._slip = drift, hunch, memory, patience, slip

    def __call__(self, observation: Observation) -> str:
        if self._random.random() < self._memory:
            self._listener.hear(observation)
        question = self._choose()
        self._listener.asked = question
        return question

    def _choose(self) -> str:
        if self._random.random() < self._slip:
            return self._random.choice(SLIPS)
        candidates = sorted(self._listener.candidates)
        if self._random.random() < self._hunch:
            return _guess(self._random.choice(candidates if self._random.random() < 0.5 else self._objects))
        facts = load_facts()
        attributes = list(facts.questions)
        if self._random.random() < self._drift:
            return self._random.choice(facts.questions[self._random.choice(attributes)])
        if len(candidates) <= self._patience:
            return _guess(self._random.choice(candidates))
        # The more even split of a few that come to mind.
        tried = self._random.sample(attributes, 4)
        half = len(candidates) / 2
        best = min(tried, key=lambda a: abs(len(self._listener.candidates & facts.true_of[a]) - half))
        return self._random.choice(facts.questions[best])
