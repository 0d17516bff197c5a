"""Interpreters of Z-code behind the same calls."""

from __future__ import annotations

import re
import threading
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from archer.envs.adapters.common import clean
from archer.extras import need

SCORED = re.compile(r"(?:scored|score (?:is|would be)) (-?\d+)", re.IGNORECASE)
"""What games of Inform and of Infocom answer to `score`, and say at their end."""
ENDED = re.compile(r"\*\*\*\s+(.+?)\s+\*\*\*")
"""The last words of a game."""


class Interpreter:
    """A game under one of the interpreters."""

    def __init__(self, game: str) -> None:
        self._name = game
        self._env = self._load(game)

    def _load(self, game: str) -> Any:
        raise NotImplementedError

    def reset(self, seed: int) -> tuple[str, int]:
        """First text and score."""
        self._env.seed(seed)
        observation, info = self._env.reset()
        return _text(observation), self._score("", info)

    def step(self, command: str) -> tuple[str, int, bool, bool]:
        """Answer, score, whether the game is over, whether it is won."""
        observation, _, done, info = self._env.step(command)
        answer = _text(observation)
        over, won = self._outcome(answer)
        return answer, self._score(answer, info), bool(done or over), won

    def peek(self, command: str) -> str:
        """What a command would be answered, without giving it."""
        state = self._env.get_state()
        answer = _text(self._env.step(command)[0])
        self._env.set_state(state)
        return answer

    def close(self) -> None:
        """Free what it holds."""
        self._env.close()

    def _score(self, answer: str, info: dict[str, Any]) -> int:
        return int(info["score"])

    def _outcome(self, answer: str) -> tuple[bool, bool]:
        """Whether the game is over, and won."""
        won = bool(self._env.victory())
        return bool(won or self._env.game_over()), won


class Fernz(Interpreter):
    """Pure Python. Of a game that it has no record of, score and end are what the game itself says."""

    def _load(self, game: str) -> Any:
        return need("fernz", "z-machine").FernzEnv(game)

    def _score(self, answer: str, info: dict[str, Any]) -> int:
        if "score" in info:
            return super()._score(answer, info)
        found = SCORED.search(answer) if ENDED.search(answer) else SCORED.search(self.peek("score"))
        if found is None:
            raise ValueError(f"z-machine: {self._name!r} does not answer `score`, so nothing in it would be rewarded")
        return int(found[1])

    def _outcome(self, answer: str) -> tuple[bool, bool]:
        try:
            return super()._outcome(answer)
        except NotImplementedError:
            last = ENDED.search(answer)
            return last is not None, last is not None and "won" in last[1].lower().split()


class Jericho(Interpreter):
    """Possible commands are those of Jericho over the things it finds in the game's own tree of objects; looking for
    nouns in the text would need a language model that is downloaded. They take a sixth of a second to find and depend
    on the place, what is carried and what lies there, so they are found once for each."""

    _found: ClassVar[dict[tuple[Any, ...], tuple[str, ...]]] = {}
    _lock = threading.Lock()

    def _load(self, game: str) -> Any:
        env = need("jericho", "textworld").FrotzEnv(game)
        if not env.is_fully_supported:
            raise ValueError(f"z-machine: jericho does not know {game!r}; interpreter='fernz' plays it")
        self._content = sha256(Path(game).read_bytes()).hexdigest()
        return env

    def commands(self) -> tuple[str, ...]:
        """What is possible here, in a fixed order."""
        place = self._env.get_player_location()
        here: frozenset[tuple[int, int]] = (
            frozenset() if place is None else _below(place.num, self._env.get_world_objects())
        )
        key = (self._content, None if place is None else place.num, here)
        with self._lock:  # one at a time: the function that looks for nouns is the library's own, and shared
            if key not in self._found:
                # Not `jericho.util`: that is ctypes' module of this name where anything has imported it before.
                util: Any = import_module("jericho.util")
                nouns = util.extract_objs
                util.extract_objs = lambda text: []
                try:
                    self._found[key] = tuple(sorted(self._env.get_valid_actions(use_parallel=False)))
                finally:
                    util.extract_objs = nouns
        return self._found[key]


def _below(number: int, objects: Any) -> frozenset[tuple[int, int]]:
    """What lies, stands and is carried at a place: everything in its branch of the tree, with what it is in."""
    children: dict[int, list[int]] = {}
    for thing in objects:
        children.setdefault(thing.parent, []).append(thing.num)
    found: set[tuple[int, int]] = set()
    unseen = [number]
    while unseen:
        parent = unseen.pop()
        for child in children.get(parent, []):
            if (child, parent) not in found:
                found.add((child, parent))
                unseen.append(child)
    return frozenset(found)


def _text(observation: Any) -> str:
    """What was said: fernz wraps it, jericho does not."""
    return clean(getattr(observation, "text", observation))
