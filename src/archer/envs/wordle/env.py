"""Wordle (LMRL-Gym, arXiv 2311.18232): find the word of five letters in six guesses."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

from archer.envs.base import Player, play_scripted
from archer.envs.game import Game, Reply, at_least, mean_return
from archer.types import Observation

INVALID = "Not in the list."


class Wordle(Game):
    """-1 per guess and 0 for the right one. Letters are said apart, ``c r a n e``, and so are the marks of the answer.

    ``g``: the letter stands there; ``y``: it stands elsewhere; ``b``: it does not (or not as often). A word that is
    not in the list uses up a guess.
    words: how many of the list are played with, the first ones in a fixed mixed order; 0 for all.
    resampled: LMRL-Gym's version. Each answer is of a word drawn anew from all that are still possible, which makes
        what was heard the whole state; the word is found when the one that is drawn was said.
    max_turns: guesses of a game, at least 1.
    """

    def __init__(self, words: int = 0, resampled: bool = False, max_turns: int = 6) -> None:
        super().__init__(max_turns)
        known = word_list()
        if at_least("words", words, 0) > len(known):
            raise ValueError(f"words must be at most the {len(known)} of the list, got {words}")
        if type(resampled) is not bool:
            raise ValueError(f"resampled must be true or false, got {resampled!r}")
        self.words = known[: words or len(known)]
        self.resampled = resampled
        self._chance = random.Random()
        self._possible = self.words
        self._secret = ""

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Draw the word, or take ``options["target"]``."""
        target = options.get("target")
        if target is not None and target not in self.words:
            raise ValueError(f"options: target {target!r} is not one of the {len(self.words)} words")
        self._chance, self._possible = chance, self.words
        self._secret = str(target) if target is not None else chance.choice(self.words)
        return "Guess the word."

    def hear(self, utterance: str) -> Reply:
        """The marks of a guess."""
        guess = "".join(utterance.lower().split())
        if guess not in self.words:
            return Reply(INVALID, -1.0, info={"success": False, "target": self._secret})
        if self.resampled:
            self._secret = self._chance.choice(self._possible)
        answer = marks(guess, self._secret)
        self._possible = consistent(self._possible, guess, answer)
        won = guess == self._secret
        info = {"success": won, "target": self._secret}
        return Reply(" ".join(answer), 0.0 if won else -1.0, over=won, info=info)

    def demonstrator(self, seed: int) -> Player:
        """Guesses what may be half the time, else any word."""
        chance = random.Random(seed)

        def choose(possible: tuple[str, ...]) -> str:
            return chance.choice(possible if chance.random() < 0.5 else self.words)

        return _Listener(self.words, choose)

    def reference(self, seed: int) -> Player:
        """Guesses the possible word that leaves the fewest to be expected; ``seed`` is not used."""
        return _Listener(self.words, best_guess)

    def reference_return(self) -> float:
        """Mean return of the reference: over all words, or over 500 games where they are resampled."""
        return _reference_return(len(self.words), self.resampled, self.max_turns)


@lru_cache
def word_list() -> tuple[str, ...]:
    """Common words of five letters, in a fixed mixed order."""
    words: list[str] = json.loads((files("archer.envs.wordle") / "words.json").read_text(encoding="utf-8"))
    random.Random(0).shuffle(words)
    return tuple(words)


@lru_cache(maxsize=1_000_000)
def marks(guess: str, secret: str) -> str:
    """``g``, ``y`` or ``b`` for each letter; a letter is marked as often as the word has it, right places first."""
    left = Counter(theirs for ours, theirs in zip(guess, secret, strict=True) if ours != theirs)
    found = []
    for ours, theirs in zip(guess, secret, strict=True):
        if ours == theirs:
            found.append("g")
        elif left[ours]:
            left[ours] -= 1
            found.append("y")
        else:
            found.append("b")
    return "".join(found)


def consistent(words: Sequence[str], guess: str, answer: str) -> tuple[str, ...]:
    """The words that would have been answered like that."""
    return tuple(word for word in words if marks(guess, word) == answer)


@lru_cache(maxsize=10_000)
def best_guess(possible: tuple[str, ...]) -> str:
    """The possible word whose answer leaves the fewest possible ones, on average."""
    return min(possible, key=lambda guess: sum(n * n for n in Counter(marks(guess, w) for w in possible).values()))


class _Listener:
    """Keeps the words that are possible; ``choose`` says which to guess."""

    def __init__(self, words: tuple[str, ...], choose: Callable[[tuple[str, ...]], str]) -> None:
        self._possible, self._choose = words, choose
        self._said = ""

    def __call__(self, observation: Observation) -> str:
        if self._said and observation != INVALID:
            self._possible = consistent(self._possible, self._said, str(observation).replace(" ", ""))
        self._said = self._choose(self._possible)
        return " ".join(self._said)


@lru_cache
def _reference_return(words: int, resampled: bool, max_turns: int) -> float:
    env = Wordle(words, resampled, max_turns)
    if not resampled:
        return mean_return(env, [{"target": target} for target in env.words])
    games = [play_scripted(env, env.reference(0), seed=2 * game) for game in range(500)]
    return sum(game.return_ for game in games) / len(games)
