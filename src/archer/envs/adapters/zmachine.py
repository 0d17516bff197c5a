"""Interactive fiction in Z-code, such as Detective, which the ArCHer paper trains on (section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from archer.envs.adapters.common import AnyPossible, command_of, listed
from archer.envs.adapters.interpreters import Fernz, Jericho
from archer.envs.base import NOT_UNDER_WAY
from archer.envs.game import at_least, one_of
from archer.types import Observation

REFUSED = {
    "save", "restore", "restart", "quit", "q", "script", "unscript", "transcript", "noscript", "verify", "undo",
    "superbrief", "verbose", "brief", "notify", "recording", "record", "replay",
}  # fmt: skip
"""Commands to the interpreter rather than to the game: files, and ends that are none."""
SHOWN = ("place", "inventory", "score", "moves", "commands")


class ZMachine:
    """What a command adds to the score is its reward; a game is over when it is won or lost.

    game: file of the game (.z3, .z5, .z8).
    interpreter: ``fernz``, pure Python, for any game that tells its score; ``jericho`` for games that it knows, whose
        possible commands it can list.
    shows: what each observation tells besides the game's answer: ``place`` (look), ``inventory``, ``score`` (as in the
        status line above the text), ``moves`` (how many are left), ``commands`` (what is possible, of jericho). The
        paper's has place, inventory and commands; a demonstrator needs the commands. Places pay once only: an agent
        that does not read the whole game needs the score to tell whether one has paid already.
    max_turns: commands of a game; the paper's has 50. Where the moves are told, their end is the game's and terminates
        it; otherwise it truncates, as nothing in the state foretells it.
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
        kinds = {"fernz": Fernz, "jericho": Jericho}
        self._game = kinds[one_of("interpreter", interpreter, tuple(kinds))](game)
        if "commands" in shows and not isinstance(self._game, Jericho):
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
        last = self._turn >= self.max_turns
        info: dict[str, object] = {"score": self._score, "success": False}
        if not command or command.lower().split()[0] in REFUSED:
            self._playing = not last
            return self._told("That is not possible."), 0.0, *self._end(False, last), info
        answer, score, over, won = self._game.step(command)
        reward, self._score = float(score - self._score), score
        self._playing = not (over or last)
        told = answer if over else self._told(answer)
        return told, reward, *self._end(over, last), {"score": score, "success": won}

    def close(self) -> None:
        self._game.close()

    def _end(self, over: bool, last: bool) -> tuple[bool, bool]:
        """Whether the game is terminated, and whether it is truncated."""
        told = "moves" in self._shows
        return over or (last and told), last and not (over or told)

    def _told(self, answer: str) -> str:
        parts = [answer]
        for name, command in (("place", "look"), ("inventory", "inventory")):
            if name in self._shows:
                told = self._game.peek(command)
                parts += [told] if told not in parts[0] else []
        if "score" in self._shows:
            parts.append(f"Score: {self._score}.")
        if "moves" in self._shows:
            parts.append(f"Moves left: {self.max_turns - self._turn}.")
        if "commands" in self._shows and isinstance(self._game, Jericho):
            parts.append(listed(self._game.commands()))
        return "\n".join(parts)
