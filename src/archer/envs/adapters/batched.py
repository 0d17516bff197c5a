"""Environments of other reinforcement-learning code for language agents: LMRL-Gym's and ArCHer's own, as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archer.envs.base import NOT_UNDER_WAY, Info
from archer.envs.loading import load
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
    """

    def __init__(self, env: str | Callable[..., Any], options: Mapping[str, Any] | None = None) -> None:
        self._env = _made(env, {**(options or {}), "bsize": 1})
        self._told = ""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode: the one with the number of the seed, where the environment numbers them."""
        self._told = str(self._env.reset(seed)[0])
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


def _made(env: str | Callable[..., Any], options: Mapping[str, Any] | None) -> Any:
    factory = load(env, "env.options.env") if isinstance(env, str) else env
    return factory(**(options or {}))
