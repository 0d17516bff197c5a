"""Who answers the questions: an interface, and the exact oracle that knows the table of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.grammar import AsksFor, Guesses, understand

YES, NO, INVALID = "Yes.", "No.", "Invalid Question."


class Oracle(Protocol):
    """Answers questions about hidden objects. Batched, so that a model can stand behind it."""

    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        """One answer per (target, question): ``Yes.``, ``No.`` or ``Invalid Question.``."""


class TableOracle:
    """Answers by facts; what it cannot understand is invalid."""

    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        return [self._one(target, question) for target, question in zip(targets, questions, strict=True)]

    def _one(self, target: str, question: str) -> str:
        match understand(question):
            case AsksFor(attribute):
                return YES if target in load_facts().true_of[attribute] else NO
            case Guesses(name):
                return YES if name == target else NO
        return INVALID
