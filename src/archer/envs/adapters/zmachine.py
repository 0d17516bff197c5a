"""Interactive fiction in Z-code, such as Detective, which the ArCHer paper trains on (section 5)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from archer.envs.adapters.common import AnyPossible, clean, command_of, listed
from archer.envs.base import NOT_UNDER_WAY
from archer.envs.game import at_least, one_of
from archer.extras import need
from archer.types import Observation

REFUSED = {
    "save", "restore", "restart", "quit", "q", "script", "unscript", "transcript", "noscript", "verify", "undo",
    "superbrief", "verbose", "brief", "notify", "recording", "record", "replay",
}  # fmt: skip
"""Commands to the interpreter rather than to the game: files, and ends that are none."""
SHOWN = ("place", "inventory", "score", "commands")


class ZMachine:
    """What a command adds to the score is its reward; a game is over when it is won or lost.

    game: file of the game (.z3, .z5, .z8).
    interpreter: ``fernz``, pure Python; ``jericho`` for games that it knows, whose possible commands it can list.
    shows: what each observation tells besides the game's answer: ``place`` (look), ``inventory``, ``score`` (as in the
        status line above the text), ``commands`` (what is possible, of jericho). The paper's has place, inventory and
        commands; a demonstrator needs the commands. What pays once only needs the score, or an agent that reads the
        whole game: nothing else tells whether it has paid already.
    max_turns: commands of a game; the paper's has 50.
    """

    def __init__(
        self,
        game: str,
        interpreter: str = "fernz",
        shows: tuple[str, ...] | list[str] = ("place", "inventory"),
        max_turns: int = 50,
    ) -> None:
        if not Path(game).is_file():
            raise ValueError(f"z-machine: there is no game {game!r}; name a file (.z3, .z5, .z8)")
        for name in shows:
            one_of("shows", name, SHOWN)
        kinds = {"fernz": _Interpreter, "jericho": _Jericho}
        self._game = kinds[one_of("interpreter", interpreter, tuple(kinds))](game)
        if "commands" in shows and not isinstance(self._game, _Jericho):
            raise ValueError("shows: possible commands are listed by interpreter='jericho' only")
        self._shows = tuple(shows)
        self.max_turns = at_least("max_turns", max_turns, 1)
        self._turn, self._score, self._playing = 0, 0, False
        if "commands" in shows:  # who is told what is possible can play at random
            self.demonstrator = AnyPossible

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Begin the game anew; its chance, where it has any, is drawn by the seed."""
        answer, self._score = self._game.reset(seed or 0)
        self._turn, self._playing = 0, True
        return self._told(answer), {}

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, dict[str, object]]:
        """Give a command: its first line."""
        if not self._playing:
            raise RuntimeError(NOT_UNDER_WAY)
        self._turn += 1
        command = command_of(utterance)
        truncated = self._turn >= self.max_turns
        info: dict[str, object] = {"score": self._score, "success": False}
        if not command or command.lower().split()[0] in REFUSED:
            self._playing = not truncated
            return self._told("That is not possible."), 0.0, False, truncated, info
        answer, score, over, won = self._game.step(command)
        reward, self._score = float(score - self._score), score
        truncated = truncated and not over
        self._playing = not (over or truncated)
        told = answer if over else self._told(answer)
        return told, reward, over, truncated, {"score": score, "success": won}

    def close(self) -> None:
        self._game.close()

    def _told(self, answer: str) -> str:
        parts = [answer]
        for name, command in (("place", "look"), ("inventory", "inventory")):
            if name in self._shows:
                told = self._game.peek(command)
                parts += [told] if told not in parts[0] else []
        if "score" in self._shows:
            parts.append(f"Score: {self._score}.")
        if "commands" in self._shows and isinstance(self._game, _Jericho):
            parts.append(listed(self._game.commands()))
        return "\n".join(parts)


class _Interpreter:
    """A game under one of the interpreters, which have the same calls."""

    _env: Any

    def __init__(self, game: str) -> None:
        self._env = self._load(game)

    def _load(self, game: str) -> Any:
        return need("fernz", "z-machine").FernzEnv(game)

    def reset(self, seed: int) -> tuple[str, int]:
        """First text and score; games that tell none have 0."""
        self._env.seed(seed)
        observation, info = self._env.reset()
        return _text(observation), int(info.get("score", 0))

    def step(self, command: str) -> tuple[str, int, bool, bool]:
        """Answer, score, whether the game is over, whether it is won."""
        observation, _, done, info = self._env.step(command)
        won = bool(self._env.victory())
        return _text(observation), int(info.get("score", 0)), bool(done or won or self._env.game_over()), won

    def peek(self, command: str) -> str:
        """What a command would be answered, without giving it."""
        state = self._env.get_state()
        answer = _text(self._env.step(command)[0])
        self._env.set_state(state)
        return answer

    def close(self) -> None:
        """Free what it holds."""
        self._env.close()


def _text(observation: Any) -> str:
    """What was said: fernz wraps it, jericho does not."""
    return clean(getattr(observation, "text", observation))


class _Jericho(_Interpreter):
    """Possible commands are those of Jericho over the things it finds in the game's own tree of objects; looking for
    nouns in the text would need a language model that is downloaded. They take a sixth of a second to find and depend
    on the place, what is carried and what lies there, so they are found once for each."""

    _found: ClassVar[dict[tuple[Any, ...], tuple[str, ...]]] = {}
    _lock = threading.Lock()

    def _load(self, game: str) -> Any:
        env = need("jericho", "textworld").FrotzEnv(game)
        if not env.is_fully_supported:
            raise ValueError(f"z-machine: jericho does not know {game!r}; interpreter='fernz' plays it")
        self._name = sha256(Path(game).read_bytes()).hexdigest()
        return env

    def commands(self) -> tuple[str, ...]:
        """What is possible here, in a fixed order."""
        place = self._env.get_player_location()
        here: frozenset[tuple[int, int]] = (
            frozenset() if place is None else _below(place.num, self._env.get_world_objects())
        )
        key = (self._name, None if place is None else place.num, here)
        with self._lock:  # one at a time: the function that looks for nouns is the library's own, and shared
            if key not in self._found:
                import jericho.util

                nouns = jericho.util.extract_objs
                jericho.util.extract_objs = lambda text: []
                try:
                    self._found[key] = tuple(sorted(self._env.get_valid_actions(use_parallel=False)))
                finally:
                    jericho.util.extract_objs = nouns
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
