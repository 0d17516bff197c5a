"""TextArena's games of one player (arXiv 2504.11442)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from archer.envs.base import NOT_UNDER_WAY
from archer.extras import need
from archer.types import Observation


class TextArena:
    """A game of TextArena, made anew for every episode; its reward comes when it ends.

    Its own wrappers show the whole history again each turn and keep that of earlier episodes; here the agent is told
    what is new. The global random generator, which TextArena draws from, is given back as it was.
    id: such as ``GuessTheNumber-v0``; those with ``-raw`` are the same here.
    brackets: put square brackets around utterances, which is how most games want to be answered.
    options: keyword arguments of the game.
    """

    def __init__(self, id: str, brackets: bool = True, options: Mapping[str, Any] | None = None) -> None:
        self._arena = need("textarena", "textarena")
        raw = id if id.endswith("-raw") else f"{id}-raw"
        known = self._arena.envs.registration.ENV_REGISTRY
        if raw not in known:
            raise ValueError(f"textarena: unknown id {id!r}; among others there is GuessTheNumber-v0")
        self._id, self._brackets, self._options = raw, brackets, dict(options or {})
        self._chance = random.Random().getstate()
        self._game: Any = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Begin a new game."""
        outside = random.getstate()
        try:
            random.seed(seed)
            self._game = self._arena.make(self._id, **self._options)
            self._game.reset(num_players=1, seed=seed)
            self._chance = random.getstate()
        finally:
            random.setstate(outside)
        return self._heard(), {}

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, dict[str, object]]:
        """Make a move."""
        if self._game is None:
            raise RuntimeError(NOT_UNDER_WAY)
        outside = random.getstate()
        try:
            random.setstate(self._chance)
            done, _ = self._game.step(f"[{utterance}]" if self._brackets else utterance)
            self._chance = random.getstate()
            if not done:
                return self._heard(), 0.0, False, False, {"success": False}
            rewards, info = self._game.close()
        finally:
            random.setstate(outside)
        self._game = None
        reward, told = float(rewards[0]), info[0]
        return str(told.get("reason", "")), reward, True, False, {"success": reward >= 1.0}

    def _heard(self) -> str:
        """What the game said since it was last asked, without our own words."""
        _, messages = self._game.get_observation()
        said = [str(text) for speaker, text, *_ in messages if speaker == self._arena.GAME_ID]
        return "\n".join(said).strip()
