"""Twenty Questions (ArCHer section 5, after LMRL-Gym): find the hidden object by yes/no questions."""

from __future__ import annotations

import importlib
import random
from collections.abc import Mapping, Sequence

from archer.envs.base import Player
from archer.envs.twenty_questions.facts import TEN, load_facts
from archer.envs.twenty_questions.grammar import Guesses, normalise, understand
from archer.envs.twenty_questions.oracle import YES, Oracle, TableOracle
from archer.envs.twenty_questions.players import CasualQuestioner, InformedQuestioner, reference_return


class TwentyQuestions:
    """-1 per question and 0 for the winning one, so the return counts the questions that did not win.

    The first observation is ``Questions:``, each later one the oracle's answer. After ``max_turns`` questions the
    game is truncated: the limit is ours, not the task's.

    objects: ``all`` 157, ``ten`` (the published subset), or a list of names.
    win_rule: ``names`` accepts every name and variant of the object in any usual wording of a guess; ``last-word`` is
        the original's, which compares the question's last word with the variants and wants a Yes, so that seven
        objects with names of two words can never be won.
    oracle: an ``Oracle``, or ``package.module:factory`` of one; none for the exact table of facts.
    """

    def __init__(
        self,
        objects: str | Sequence[str] = "all",
        max_turns: int = 20,
        win_rule: str = "names",
        oracle: Oracle | str | None = None,
    ) -> None:
        self.objects = _choose(objects)
        if max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {max_turns}")
        if win_rule not in ("names", "last-word"):
            raise ValueError(f"win_rule must be 'names' or 'last-word', got {win_rule!r}")
        self.max_turns = max_turns
        self.win_rule = win_rule
        self.oracle = _load_oracle(oracle)
        self._target: str | None = None
        self._turn = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        """Hide an object: the one drawn by ``seed``, or ``options["target"]``."""
        target = (options or {}).get("target")
        if target is not None and target not in self.objects:
            raise ValueError(f"options: target {target!r} is not one of the {len(self.objects)} objects")
        self._target = str(target) if target is not None else random.Random(seed).choice(self.objects)
        self._turn = 0
        return "Questions:", {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        """Ask a question."""
        if self._target is None:
            raise RuntimeError("the game is over or was never started: call reset() before step()")
        target = self._target
        answer = self.oracle.answer([target], [utterance])[0]
        won = self._wins(target, utterance, answer)
        self._turn += 1
        truncated = not won and self._turn >= self.max_turns
        if won or truncated:
            self._target = None
        return (YES if won else answer), (0.0 if won else -1.0), won, truncated, {"success": won, "target": target}

    def _wins(self, target: str, utterance: str, answer: str) -> bool:
        if self.win_rule == "names":
            return understand(utterance) == Guesses(target)
        last = normalise(utterance).split(" ")[-1]
        return answer == YES and last in load_facts().variants[target]

    def demonstrator(self, seed: int) -> Player:
        """A casual questioner, as human players are: redundant and premature questions, sometimes forgetful."""
        return CasualQuestioner(self.objects, seed)

    def reference(self, seed: int) -> Player:
        """The information-gain questioner; ``seed`` is not used, it plays the same way every time."""
        return InformedQuestioner(self.objects)

    def reference_return(self) -> float:
        """Mean return of the information-gain questioner over all objects."""
        return reference_return(self.objects)


def _choose(objects: str | Sequence[str]) -> tuple[str, ...]:
    names = load_facts().names
    if objects == "all":
        return names
    if objects == "ten":
        return tuple(names[index] for index in TEN)
    if isinstance(objects, str):
        raise ValueError(f"objects must be 'all', 'ten' or a list of names, got {objects!r}")
    unknown = [name for name in objects if name not in names]
    if unknown or not objects:
        raise ValueError(f"objects must name at least one of the 157 known objects; unknown: {unknown}")
    return tuple(objects)


def _load_oracle(oracle: Oracle | str | None) -> Oracle:
    if oracle is None:
        return TableOracle()
    if not isinstance(oracle, str):
        return oracle
    module, colon, name = oracle.partition(":")
    if not colon:
        raise ValueError(f"oracle must be 'package.module:factory', got {oracle!r}")
    made: Oracle = getattr(importlib.import_module(module), name)()
    return made
