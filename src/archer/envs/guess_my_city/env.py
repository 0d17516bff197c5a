"""Guess My City (ArCHer section 5, after LMRL-Gym): find the city that someone is from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache

from archer.envs.base import Player
from archer.envs.game import Game, Reply, mean_return, one_of
from archer.envs.guess_my_city.facts import load_cities, names_city
from archer.envs.guess_my_city.players import Casual, Informed
from archer.envs.guess_my_city.questions import SECRET, YES, answer_to, guess_of, prompt
from archer.envs.loading import load
from archer.envs.oracles.base import Respondent
from archer.types import Observation


class GuessMyCity(Game):
    """-1 per question and 0 for the one that names the city; yes/no and open questions are answered from a table.

    max_turns: questions of a game, at least 1.
    win_rule: ``guess`` accepts a question that names this city and no other; ``substring`` is the original's, which
        looks for the city's name anywhere in what was said: a list of all cities then wins at once.
    oracle: a ``Respondent`` (a language model) that answers in place of the table, or ``package.module:factory`` of
        one.
    """

    def __init__(self, max_turns: int = 20, win_rule: str = "guess", oracle: Respondent | str | None = None) -> None:
        super().__init__(max_turns)
        self._oracle = load(oracle, "oracle")() if isinstance(oracle, str) else oracle
        if self._oracle is not None and not isinstance(self._oracle, Respondent):
            raise ValueError(f"oracle must have a method complete(prompts) -> list of str, got {self._oracle!r}")
        self.win_rule = one_of("win_rule", win_rule, ("guess", "substring"))
        self._target = ""

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Be from a city drawn by chance, or from ``options["target"]``."""
        target = options.get("target")
        if target is not None and target not in load_cities():
            raise ValueError(f"options: target {target!r} is not one of the {len(load_cities())} cities")
        self._target = str(target) if target is not None else chance.choice(list(load_cities()))
        return "Questions:"

    def hear(self, utterance: str) -> Reply:
        """Answer a question."""
        won = guess_of(utterance) == self._target if self.win_rule == "guess" else names_city(utterance, self._target)
        answer = YES if won else self._answer(utterance)
        return Reply(answer, 0.0 if won else -1.0, over=won, info={"success": won, "target": self._target})

    def _answer(self, question: str) -> str:
        if self._oracle is None:
            return answer_to(question, self._target)
        told = self._oracle.complete([prompt(self._target, question)])[0].strip()
        return SECRET if names_city(told, self._target) else told

    def demonstrator(self, seed: int) -> Player:
        """Asks as it comes to mind."""
        return Casual(seed)

    def reference(self, seed: int) -> Player:
        """Asks what tells most cities apart; ``seed`` is not used."""
        return Informed()

    def reference_return(self) -> float:
        """Mean return of the reference over all cities."""
        return _reference_return(self.max_turns, self.win_rule)


@lru_cache
def _reference_return(max_turns: int, win_rule: str) -> float:
    return mean_return(GuessMyCity(max_turns, win_rule), [{"target": name} for name in load_cities()])
