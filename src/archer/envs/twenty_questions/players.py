"""Scripted players: an information-gain questioner to measure against, and a casual one to learn from."""

from __future__ import annotations

import random

from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.grammar import understand
from archer.envs.twenty_questions.oracle import INVALID, YES
from archer.envs.twenty_questions.solver import attribute_masks, best_question, mask_of, members_of, names_in
from archer.types import Observation

SLIPS = ("Is it nice?", "Is it popular?", "Do you like it?", "What is it?", "Is it old or new?")
"""Questions that have no answer in the table; people ask them, and an agent must have met ``Invalid Question.``."""


def guess(name: str) -> str:
    """The plainest question that guesses an object."""
    synonyms = load_facts().synonyms
    if name in synonyms["bare"]:
        return f"Is it {name}?"
    article = "the" if name in synonyms["the"] else "an" if name[0] in "aeiou" else "a"
    return f"Is it {article} {name}?"


class _Listener:
    """Keeps the objects that are still possible after every answer heard."""

    def __init__(self, objects: tuple[str, ...]) -> None:
        self.candidates = self._all = mask_of(objects)
        self.asked: str | None = None

    def hear(self, observation: Observation) -> None:
        if self.asked is None or observation == INVALID:
            return
        members = members_of(understand(self.asked))
        if members is None:
            return
        left = self.candidates & members if observation == YES else self.candidates & ~members
        # Answers that contradict each other come from an oracle that errs: what was heard before is then worth nothing.
        self.candidates = left or self._all


class InformedQuestioner:
    """Asks what leaves the fewest questions to be expected: a strong reference, exact on small sets."""

    def __init__(self, objects: tuple[str, ...]) -> None:
        self._listener = _Listener(objects)

    def __call__(self, observation: Observation) -> str:
        self._listener.hear(observation)
        _, attribute, name = best_question(self._listener.candidates)
        question = load_facts().questions[attribute][0] if attribute else guess(name)
        self._listener.asked = question
        return question


class CasualQuestioner:
    """Plays as people do: narrows down more or less, forgets answers, repeats itself, guesses too early.

    objects: the objects that may be hidden.
    seed: seed of everything it chooses.
    drift: chance of a question chosen without regard to what is known.
    hunch: chance of a guess while many objects are possible; every second one disregards what is known.
    memory: chance that an answer is taken in at all.
    slip: chance of a question that no table of facts can answer.
    again: chance of a question asked before, word for word. Costly play, but who has seen such answers come out the
        same learns to look back.
    patience: with at most this many candidates left it guesses one of them.
    ideas: as many questions come to mind at a time; it asks the one that splits most evenly.
    """

    def __init__(
        self,
        objects: tuple[str, ...],
        seed: int,
        *,
        drift: float = 0.3,
        hunch: float = 0.12,
        memory: float = 0.85,
        patience: int = 2,
        slip: float = 0.03,
        again: float = 0.0,
        ideas: int = 4,
    ) -> None:
        self._random = random.Random(seed)
        self._objects = objects
        self._listener = _Listener(objects)
        self._drift, self._hunch, self._memory, self._patience = drift, hunch, memory, patience
        self._slip, self._again, self._ideas = slip, again, ideas
        self._said: list[str] = []

    def __call__(self, observation: Observation) -> str:
        if self._random.random() < self._memory:
            self._listener.hear(observation)
        question = self._choose()
        self._listener.asked = question
        self._said.append(question)
        return question

    def _choose(self) -> str:
        if self._random.random() < self._slip:
            return self._random.choice(SLIPS)
        if self._said and self._random.random() < self._again:
            return self._random.choice(self._said)
        candidates = self._listener.candidates
        if self._random.random() < self._hunch:
            known = self._random.random() < 0.5
            return guess(self._random.choice(names_in(candidates) if known else self._objects))
        masks = attribute_masks()
        if self._random.random() < self._drift:
            return self._ask(self._random.choice(list(masks)))
        count = candidates.bit_count()
        if count <= self._patience:
            return guess(self._random.choice(names_in(candidates)))
        ideas = self._random.sample(list(masks), self._ideas)
        return self._ask(min(ideas, key=lambda a: abs((candidates & masks[a]).bit_count() - count / 2)))

    def _ask(self, attribute: str) -> str:
        """The question in some of its wordings, the usual ones more often."""
        wordings = load_facts().questions[attribute]
        return self._random.choices(wordings, weights=[1 / rank**2 for rank in range(1, len(wordings) + 1)])[0]
