"""Seeds of environments: which games are learned from, and which measure what was learned."""

from __future__ import annotations

from collections.abc import Iterable

APART = 10_000_019
"""Games of a kind before the next run seed's begin."""
DEMONSTRATED, COLLECTED = 1_000_000_000_000, 2_000_000_000_000
"""Where the games begin that scripted players show a run, and those that `archer collect` writes out. The three kinds
that are learned from lie apart for run seeds below 99,999."""


def training_seed(run_seed: int, game: int) -> int:
    """Environment seed of a training game: even, like all that may be learned from, so that no evaluation shares it."""
    return _learned(0, run_seed, game)


def training_seeds(run_seed: int, games: Iterable[int], group: int) -> list[int]:
    """Those of games by their numbers, ``group`` of each task."""
    return [training_seed(run_seed, game // group) for game in games]


def whole_groups(games: int, group: int) -> int:
    """``games``, or the next higher number at which a group begins."""
    return -(-games // group) * group


def demonstration_seed(run_seed: int, game: int) -> int:
    """Environment seed of a demonstration."""
    return _learned(DEMONSTRATED, run_seed, game)


def collected_seeds(games: int, seed: int) -> list[int]:
    """Environment seeds of games that are written to a file, which somebody may learn from."""
    return [_learned(COLLECTED, seed, game) for game in range(games)]


def evaluation_seed(game: int) -> int:
    """Environment seed of an evaluation game: odd, and the same for every run, so that runs are compared on equals."""
    return 2 * game + 1


def _learned(first: int, seed: int, game: int) -> int:
    return 2 * (first + seed * APART + game)
