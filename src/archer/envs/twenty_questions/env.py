"""Twenty Questions (ArCHer section 5, after LMRL-Gym): find the hidden object by yes/no questions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache

from archer.envs.base import Player
from archer.envs.game import Game, Reply, mean_return, one_of
from archer.envs.loading import load
from archer.envs.oracles.base import Respondent
from archer.envs.twenty_questions.facts import TEN, load_facts
from archer.envs.twenty_questions.grammar import Guesses, understand, words
from archer.envs.twenty_questions.oracle import YES, ModelOracle, Oracle, TableOracle
from archer.envs.twenty_questions.players import CasualQuestioner, InformedQuestioner
from archer.types import Observation

WIN_RULES = ("names", "last-word")


class TwentyQuestions(Game):
    """-1 per question and 0 for the winning one, so the return counts the questions that did not win.

    The first observation is ``Questions:``, each later one the oracle's answer. After ``max_turns`` questions the
    game is truncated: the limit is ours, not the task's.

    objects: ``all`` 157, ``ten`` (the published subset), or a list of names.
    max_turns: questions of a game, at least 1.
    win_rule: ``names`` accepts every name and variant of the object in any usual wording of a guess; ``last-word`` is
        the original's, which compares the question's last word with the variants and wants a Yes, so that seven
        objects with names of two words can never be won.
    oracle: an ``Oracle``, a ``Respondent`` (a language model), or ``package.module:factory`` of one; none for the exact
        table of facts.

    Raises ValueError naming the argument that does not fit and what would.
    """

    def __init__(
        self,
        objects: str | Sequence[str] = "all",
        max_turns: int = 20,
        win_rule: str = "names",
        oracle: Oracle | Respondent | str | None = None,
    ) -> None:
        super().__init__(max_turns)
        self.objects = _choose(objects)
        self.win_rule = one_of("win_rule", win_rule, WIN_RULES)
        self.oracle = _load_oracle(oracle)
        self._target = ""

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Hide an object: one drawn by ``chance``, or ``options["target"]``."""
        target = options.get("target")
        if target is not None and target not in self.objects:
            raise ValueError(f"options: target {target!r} is not one of the {len(self.objects)} objects")
        self._target = str(target) if target is not None else chance.choice(self.objects)
        return "Questions:"

    def hear(self, utterance: str) -> Reply:
        """Answer a question."""
        target = self._target
        won = self.win_rule == "names" and understand(utterance) == Guesses(target)
        answer = YES if won else self.oracle.answer([target], [utterance])[0]
        if self.win_rule == "last-word":
            won = answer == YES and words(utterance)[-1:] in [[variant] for variant in load_facts().variants[target]]
        return Reply(answer, 0.0 if won else -1.0, over=won, info={"success": won, "target": target})

    def demonstrator(self, seed: int) -> Player:
        """A casual questioner, as human players are: redundant and premature questions, sometimes forgetful."""
        if len(self.objects) <= len(TEN):
            # Among few objects anyone narrows down in no time; the more so must a learner's examples leave room.
            return CasualQuestioner(self.objects, seed, drift=0.6, memory=0.6, again=0.2)
        return CasualQuestioner(self.objects, seed, drift=0.3, hunch=0.4, memory=1.0, again=0.06, ideas=8, patience=4)

    def reference(self, seed: int) -> Player:
        """The information-gain questioner; ``seed`` is not used, it plays the same way every time."""
        return InformedQuestioner(self.objects)

    def reference_return(self) -> float:
        """Mean return of the information-gain questioner over all objects, one game each under this task's rules.

        The answers are the table's, whatever the oracle: those of a model have no exact mean.
        """
        return _reference_return(self.objects, self.max_turns, self.win_rule)


@lru_cache(maxsize=32)
def _reference_return(objects: tuple[str, ...], max_turns: int, win_rule: str) -> float:
    env = TwentyQuestions(objects, max_turns, win_rule)
    return mean_return(env, [{"target": target} for target in objects])


def _choose(objects: str | Sequence[str]) -> tuple[str, ...]:
    names = load_facts().names
    if objects == "all":
        return names
    if objects == "ten":
        return tuple(names[index] for index in TEN)
    if isinstance(objects, str) or not isinstance(objects, Sequence) or not objects:
        raise ValueError(f"objects must be 'all', 'ten' or a list of at least one name, got {objects!r}")
    unknown = [name for name in objects if name not in names]
    if unknown:
        raise ValueError(f"objects: {', '.join(map(repr, unknown))} not among the {len(names)} known objects")
    if len(set(objects)) < len(objects):
        raise ValueError("objects must not name the same object twice")
    return tuple(objects)


def _load_oracle(oracle: Oracle | Respondent | str | None) -> Oracle:
    if oracle is None:
        return TableOracle()
    made = load(oracle, "oracle")() if isinstance(oracle, str) else oracle
    if isinstance(made, Respondent):
        return ModelOracle(made)
    if not isinstance(made, Oracle):
        raise ValueError(
            "oracle must have a method answer(targets, questions) -> list of str, or complete(prompts) -> list of str, "
            f"got {made!r}"
        )
    return made
