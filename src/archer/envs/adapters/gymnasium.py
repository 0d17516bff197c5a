"""Any Gymnasium environment whose observations can be put in words: text spaces, numbers, or what it renders."""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archer.envs.base import Player
from archer.envs.game import one_of
from archer.extras import need
from archer.types import Observation


class Gymnasium:
    """An environment of the Gymnasium interface, of 5 or (old Gym) 4 values a step, as a text environment.

    A text action space hears the utterance as it is. In a discrete one, ``actions`` are the names of its actions in
    order, or their numbers are to be said; what names none is answered with the list, at ``invalid_reward``, and the
    environment does not step.
    id: what ``gymnasium.make`` is called with, or ``env`` a factory of your own.
    observe: ``observation`` puts observations in words, ``render`` takes what ``render()`` gives (render_mode="ansi").
    options: keyword arguments of the environment.
    """

    def __init__(
        self,
        id: str | None = None,
        *,
        env: Callable[..., Any] | None = None,
        actions: Sequence[str] = (),
        observe: str = "observation",
        invalid_reward: float = -1.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if (id is None) == (env is None):
            raise ValueError("gymnasium: name an environment, id=FrozenLake-v1 for instance, or give env=, a factory")
        one_of("observe", observe, ("observation", "render"))
        keywords = dict(options or {})
        if observe == "render":
            keywords.setdefault("render_mode", "ansi")
        self.env = need("gymnasium", "gymnasium").make(id, **keywords) if env is None else env(**keywords)
        self._observe, self._invalid = observe, invalid_reward
        count = getattr(self.env.action_space, "n", None)
        self._actions: tuple[str, ...] = ()
        if count is not None:
            self._actions = tuple(actions) or tuple(map(str, range(int(count))))
            if len(self._actions) != int(count):
                raise ValueError(f"actions must name all {count} actions, got {len(self._actions)}")
            self.demonstrator = self._anything
        elif type(self.env.action_space).__name__ != "Text":
            raise ValueError(
                f"gymnasium: {id or env} has the action space {self.env.action_space}; only text and discrete ones can "
                "be spoken to, others need a wrapper of their own"
            )

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Begin an episode."""
        keywords: dict[str, Any] = {} if options is None else {"options": dict(options)}
        if "seed" in inspect.signature(self.env.reset).parameters:
            result = self.env.reset(seed=seed, **keywords)
        else:  # old Gym
            self.env.seed(seed)
            result = self.env.reset()
        observation, info = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        return self._words(observation), dict(info)

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, dict[str, object]]:
        """Take the action that was said."""
        action: Any = utterance
        if self._actions:
            said = utterance.strip().lower()
            names = [name.lower() for name in self._actions]
            if said not in names:
                return f"Possible actions: {', '.join(self._actions)}.", self._invalid, False, False, {}
            action = names.index(said)
        result = self.env.step(action)
        if len(result) == 4:  # old Gym: one flag for both ends
            observation, reward, done, info = result
            truncated = bool(done and info.get("TimeLimit.truncated", False))
            return self._words(observation), float(reward), bool(done) and not truncated, truncated, dict(info)
        observation, reward, terminated, truncated, info = result
        return self._words(observation), float(reward), bool(terminated), bool(truncated), dict(info)

    def close(self) -> None:
        self.env.close()

    def _anything(self, seed: int) -> Player:
        """A player that takes any action, at random."""
        chance = random.Random(seed)
        return lambda observation: chance.choice(self._actions)

    def _words(self, observation: Any) -> Observation:
        if self._observe == "render":
            return _unstyled(str(self.env.render()))
        if isinstance(observation, str):
            return observation
        if isinstance(observation, list) and all(isinstance(part, Mapping) for part in observation):
            return observation  # chat messages
        return json.dumps(_plain(observation))


def _unstyled(text: str) -> str:
    """Text without terminal colours; what stood on a coloured ground, where the agent is, in brackets."""
    marked = re.sub(r"\x1b\[4[0-7]m(.*?)\x1b\[0m", r"[\1]", text, flags=re.DOTALL)
    return re.sub(r"\x1b\[[0-9;]*m", "", marked).strip()


def _plain(value: Any) -> Any:
    """Arrays, numbers and spaces' containers as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value
