"""Who answers the questions: an interface, and the exact oracle that knows the table of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from archer.envs.oracles.base import Respondent
from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.grammar import AsksFor, Guesses, understand

YES, NO, INVALID = "Yes.", "No.", "Invalid Question."


@runtime_checkable
class Oracle(Protocol):
    """Answers questions about hidden objects. Batched, so that a model can stand behind it."""

    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        """One answer per (target, question): ``Yes.``, ``No.`` or ``Invalid Question.``."""


class TableOracle:
    """Answers by facts; what it cannot understand is invalid."""

    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        """One answer per (target, question)."""
        return [self._one(target, question) for target, question in zip(targets, questions, strict=True)]

    def _one(self, target: str, question: str) -> str:
        match understand(question):
            case AsksFor(attribute):
                return YES if target in load_facts().true_of[attribute] else NO
            case Guesses(name):
                return YES if name == target else NO
        return INVALID


class ModelOracle:
    """Answers with a language model, prompted as LMRL-Gym prompts its own."""

    def __init__(self, respondent: Respondent) -> None:
        self.respondent = respondent

    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        """One answer per (target, question); a reply that begins with neither yes nor no is ``Invalid Question.``."""
        prompts = [prompt(target, question) for target, question in zip(targets, questions, strict=True)]
        return [read_answer(reply) for reply in self.respondent.complete(prompts)]


def read_answer(text: str) -> str:
    """What a language model's reply means: ``Yes.``, ``No.``, or ``Invalid Question.`` where it is neither."""
    first = text.strip().lower().lstrip("\"'*").split(maxsplit=1)
    word = first[0].rstrip(".,!;:\"'*") if first else ""
    return {"yes": YES, "no": NO}.get(word, INVALID)


def prompt(target: str, question: str) -> str:
    """The prompt of LMRL-Gym's oracle."""
    task = "Answer the question about the object truthfully."
    return f"{task}\nobject: {target}\nquestion: {question}\nanswer (yes or no):"
