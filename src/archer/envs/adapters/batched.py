"""Environments of other reinforcement-learning code for language agents: LMRL-Gym's and ArCHer's own, as they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from archer.envs.adapters.common import level_of
from archer.envs.base import NOT_UNDER_WAY, Info
from archer.envs.game import at_least
from archer.envs.loading import load
from archer.seeds import is_evaluation
from archer.types import Observation


class LMRLGym:
    """An environment of LMRL-Gym (arXiv 2311.18232): it maps a history of texts to the history with its answer.

    env: ``package.module:factory`` or the factory itself, of an object with ``reset(seed, options) -> history`` and
        ``step(history) -> (history, reward, done)``; a history is a tuple of ``Text(text, is_action)``.
    options: keyword arguments of the factory.
    """

    def __init__(self, env: str | Callable[..., Any], options: Mapping[str, Any] | None = None) -> None:
        self._env = _made(env, options)
        self._history: tuple[Any, ...] = ()

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode."""
        self._history = tuple(self._env.reset(seed=seed, options=dict(options) if options else None))
        return "".join(part.text for part in self._history).strip(), {}

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, Info]:
        """Say something; the answer is what the history has more than before."""
        text = type(self._history[-1])(f"{utterance}\n", True)
        spoken = (*self._history, text)
        self._history, reward, done = self._env.step(spoken)
        heard = "".join(part.text for part in self._history[len(spoken) :]).strip()
        return heard, float(reward), bool(done), False, {}

    def close(self) -> None:
        self._env.close()


class ArcherBatched:
    """A batched environment of the original ArCHer code, of which one place is used.

    Its observations are the whole conversation so far; what is told here is what is new. Its finished games return
    nothing, and its limit of turns is not told apart from the task's end.
    env: ``package.module:Class`` or the class itself, made with ``bsize=1``, with ``reset(idx) -> [observation]`` and
        ``step([utterance]) -> [(observation, reward, done)]``.
    options: keyword arguments of the class.
    items: how many numbered ones there are to choose among, words or cities: the seed draws the ``idx``. Without it the
        environment draws for itself, by generators that begin with the seed.
    held_out: how many of the items, the last, are for evaluations alone; 0 to measure by the same, as the original did.
    """

    def __init__(
        self,
        env: str | Callable[..., Any],
        options: Mapping[str, Any] | None = None,
        items: int | None = None,
        held_out: int = 0,
    ) -> None:
        self._items = None if items is None else at_least("items", items, 1)
        self._held_out = at_least("held_out", held_out, 0)
        if self._held_out >= (self._items or 1):
            raise ValueError(f"held_out must be less than items (how many there are), got {held_out} of items={items}")
        self._env = _made(env, {**(options or {}), "bsize": 1})
        self._told = ""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode with the item that the seed draws."""
        begun = self._drawing(seed) if self._items is None else self._numbered(seed, self._items)
        self._told = str(begun[0])
        return self._told.strip(), {}

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, Info]:
        """Say something."""
        result = self._env.step([utterance])[0]
        if result is None:
            raise RuntimeError(NOT_UNDER_WAY)
        observation, reward, done = result[0], result[1], result[2]
        before, self._told = self._told, str(observation)
        new = self._told.removeprefix(before).strip()
        return new.removeprefix(utterance.strip()).strip(), float(reward), bool(done), False, {}

    def _numbered(self, seed: int | None, items: int) -> Any:
        """First observations of a game of one item."""
        known = items - self._held_out
        number = level_of(random.Random(seed), known, self._held_out, held_out=is_evaluation(seed))
        try:
            return self._env.reset(number)
        except IndexError as error:
            raise ValueError(
                f"archer-batched: items={items}, but the environment has none with number {number}; items is the "
                "length of its list (word_list, city_list)"
            ) from error

    def _drawing(self, seed: int | None) -> Any:
        """First observations of a game whose item the environment draws: by a generator of its place in the batch, or
        by the global one, which is given back as it was."""
        outside = random.getstate()
        try:
            random.seed(seed)
            for place in getattr(self._env, "env_list", ()):
                if hasattr(place, "random"):  # the original begins it with the system's entropy
                    place.random.seed(seed)
            return self._env.reset()
        finally:
            random.setstate(outside)


def _made(env: str | Callable[..., Any], options: Mapping[str, Any] | None) -> Any:
    factory = load(env, "env.options.env") if isinstance(env, str) else env
    return factory(**(options or {}))
