"""Which games are learned from, and which measure it and are never met."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest

from archer.seeds import (
    collected_seeds,
    demonstration_seed,
    evaluation_seed,
    training_seed,
    training_seeds,
    whole_groups,
)

GAMES = 2000


def test_what_is_learned_from_is_even_what_measures_is_odd_and_every_generator_takes_both() -> None:
    for run_seed in (0, 1, 215, 10**12):
        for kind in (training_seed, demonstration_seed, lambda seed, game: collected_seeds(game + 1, seed)[-1]):
            for game in (0, 7):
                seed = kind(run_seed, game)
                assert seed % 2 == 0 and 0 <= seed < 2**31
                np.random.RandomState(seed)
                random.Random(seed)
    assert [evaluation_seed(game) for game in range(3)] == [1, 3, 5]


def test_kinds_of_games_and_runs_share_hardly_any() -> None:
    """Drawn at random from 2³⁰, two lists of 2,000 share 2000² / 2³⁰ = .004."""
    lists = [
        training_seeds(0, range(GAMES), 1),
        training_seeds(1, range(GAMES), 1),
        [demonstration_seed(0, game) for game in range(GAMES)],
        collected_seeds(GAMES, 0),
    ]
    assert all(len(set(seeds)) == GAMES for seeds in lists)
    assert not any(set(one) & set(other) for one, other in combinations(lists, 2))


def test_a_run_plays_the_same_games_on_every_machine_and_after_every_stop() -> None:
    assert training_seeds(0, range(3), 1) == [1484405854, 1915600864, 1463396094]


def test_a_group_plays_one_task() -> None:
    first, second = training_seeds(0, range(2), 1)
    assert training_seeds(0, range(6), 3) == [first] * 3 + [second] * 3
    assert [whole_groups(games, 8) for games in (0, 1, 8, 9)] == [0, 8, 8, 16]


def test_a_seed_below_nought_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        collected_seeds(1, -1)
