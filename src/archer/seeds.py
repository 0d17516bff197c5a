"""Seeds of environments: which games are learned from, and which measure what was learned.

All are below 2³¹, which every generator takes. Those of games that are learned from are even, those of evaluations odd,
so that no agent has met what it is measured on, whoever trained it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# Kinds of games that are learned from: a run's own, those that scripted players show it, those written to files.
TRAINING, DEMONSTRATED, COLLECTED = range(3)


def training_seed(run_seed: int, game: int) -> int:
    """Environment seed of a training game."""
    return _even(TRAINING, run_seed, game)


def training_seeds(run_seed: int, games: Iterable[int], group: int) -> list[int]:
    """Those of games by their numbers, ``group`` of each task."""
    return [training_seed(run_seed, game // group) for game in games]


def whole_groups(games: int, group: int) -> int:
    """``games``, or the next higher number at which a group begins."""
    return -(-games // group) * group


def demonstration_seed(run_seed: int, game: int) -> int:
    """Environment seed of a demonstration."""
    return _even(DEMONSTRATED, run_seed, game)


def collected_seeds(games: int, seed: int) -> list[int]:
    """Environment seeds of games that are written to a file, which somebody may learn from; ValueError for a seed below
    0."""
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    return [_even(COLLECTED, seed, game) for game in range(games)]


def evaluation_seed(game: int) -> int:
    """Environment seed of an evaluation game: the same for every run, so that runs are compared on equals."""
    return 2 * game + 1


def is_evaluation(seed: int | None) -> bool:
    """Whether a game of this seed measures; without a seed it does not."""
    return bool((seed or 0) % 2)


def _even(*what: int) -> int:
    """A number like drawn at random, of which one kind of game hardly shares any with another."""
    return 2 * int(np.random.SeedSequence(what).generate_state(1)[0] >> 2)
