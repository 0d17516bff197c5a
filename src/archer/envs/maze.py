"""Maze (LMRL-Gym, arXiv 2311.18232): find the goal by moving one field at a time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from functools import lru_cache

from archer.envs.base import Player
from archer.envs.game import Game, Reply, mean_return, one_of
from archer.types import Observation

LAYOUTS = {
    "double-t": (
        "#############",
        "#.....#.....#",
        "###.#####.###",
        "###.#####.###",
        "###.#####.###",
        "###.......###",
        "######.######",
        "######.######",
        "######G######",
        "#############",
    ),
    "u": ("#####", "#...#", "#.#.#", "#.#G#", "#####"),
}
"""``#`` is wall, ``G`` the goal."""
MOVES = {"move up": (-1, 0), "move down": (1, 0), "move left": (0, -1), "move right": (0, 1)}
WHERE = {"move up": "above you", "move down": "below you", "move left": "to your left", "move right": "to your right"}

Field = tuple[int, int]
"""Row and column, from 0."""


class Maze(Game):
    """-1 per move, -4 for what is no move, 0 for the one that reaches the goal; bumping into a wall stays in place.

    layout: ``double-t`` (LMRL-Gym's, 10 by 13) or ``u`` (5 by 5).
    sees: ``position`` tells where the agent is (fully observed), ``walls`` only what is beside it.
    max_turns: moves of a game, at least 1.
    """

    def __init__(self, layout: str = "double-t", sees: str = "position", max_turns: int = 100) -> None:
        super().__init__(max_turns)
        self.layout = one_of("layout", layout, tuple(LAYOUTS))
        self.sees = one_of("sees", sees, ("position", "walls"))
        self._at: Field = (0, 0)

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Start on any free field but the goal, or on ``options["start"]``, a row and a column."""
        free = sorted(field for field in _fields(self.layout) if field != _goal(self.layout))
        start = options.get("start")
        if start is not None and (not isinstance(start, (list, tuple)) or tuple(start) not in free):
            raise ValueError(f"options: start must be the row and column of a free field, got {start!r}")
        self._at = (start[0], start[1]) if isinstance(start, (list, tuple)) else chance.choice(free)
        return self._view()

    def hear(self, utterance: str) -> Reply:
        """Move, and say what is to be seen there."""
        move = " ".join(utterance.lower().split())
        if move not in MOVES:
            return Reply(self._view(), -4.0, info={"success": False})
        self._at = _after(self.layout, self._at, move)
        if self._at == _goal(self.layout):
            return Reply("You are at the goal.", 0.0, over=True, info={"success": True})
        return Reply(self._view(), -1.0, info={"success": False})

    def _view(self) -> str:
        return _view(self.layout, self.sees, self._at)

    def demonstrator(self, seed: int) -> Player:
        """Goes where the goal should be two times of five, and anywhere else."""
        return _Walker(self.layout, self.sees, random.Random(seed))

    def reference(self, seed: int) -> Player:
        """Goes the shortest way from where it may be; ``seed`` is not used."""
        return _Walker(self.layout, self.sees, None)

    def reference_return(self) -> float:
        """Mean return of the reference from all fields."""
        return _reference_return(self.layout, self.sees, self.max_turns)


class _Walker:
    """Knows the maze, keeps the fields it may be on, and goes towards the goal or, with ``chance``, often anywhere."""

    def __init__(self, layout: str, sees: str, chance: random.Random | None) -> None:
        self._layout, self._sees, self._chance = layout, sees, chance
        self._possible = sorted(field for field in _fields(layout) if field != _goal(layout))
        self._tried: set[tuple[tuple[Field, ...], str]] = set()

    def __call__(self, observation: Observation) -> str:
        self._possible = [field for field in self._possible if _view(self._layout, self._sees, field) == observation]
        if self._chance is not None and self._chance.random() < 0.6:
            move = self._chance.choice(list(MOVES))
        else:
            move = self._best()
        self._possible = [_after(self._layout, field, move) for field in self._possible]
        return move

    def _best(self) -> str:
        """The move after which the goal is nearest on average; never twice the same from equal knowledge, which would
        go round in circles."""
        steps = _distances(self._layout)
        here = tuple(self._possible)
        untried = [name for name in MOVES if (here, name) not in self._tried] or list(MOVES)
        move = min(untried, key=lambda name: sum(steps[_after(self._layout, at, name)] for at in here))
        self._tried.add((here, move))
        return move


def _view(layout: str, sees: str, at: Field) -> str:
    """What is to be seen on a field."""
    walls = [WHERE[name] for name in MOVES if _after(layout, at, name) == at]
    seen = f"Walls {', '.join(walls)}." if walls else "No walls."
    if sees == "walls":
        return seen
    goal = _goal(layout)
    return f"The goal is at {goal[0]}, {goal[1]}. You are at {at[0]}, {at[1]}. {seen}"


def _after(layout: str, at: Field, move: str) -> Field:
    """The field where a move leads."""
    there = (at[0] + MOVES[move][0], at[1] + MOVES[move][1])
    return there if there in _fields(layout) else at


@lru_cache
def _reference_return(layout: str, sees: str, max_turns: int) -> float:
    starts = [field for field in _fields(layout) if field != _goal(layout)]
    return mean_return(Maze(layout, sees, max_turns), [{"start": start} for start in starts])


@lru_cache
def _fields(layout: str) -> frozenset[Field]:
    """Where one can stand."""
    rows = LAYOUTS[layout]
    return frozenset((r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark != "#")


@lru_cache
def _goal(layout: str) -> Field:
    return next((r, row.index("G")) for r, row in enumerate(LAYOUTS[layout]) if "G" in row)


@lru_cache
def _distances(layout: str) -> dict[Field, int]:
    """Moves from every field to the goal."""
    found = {_goal(layout): 0}
    queue = deque(found)
    while queue:
        field = queue.popleft()
        for down, right in MOVES.values():
            there = (field[0] + down, field[1] + right)
            if there in _fields(layout) and there not in found:
                found[there] = found[field] + 1
                queue.append(there)
    return found
