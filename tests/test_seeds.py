"""Which games are learned from and which measure it never meet."""

from __future__ import annotations

from itertools import combinations

from archer.seeds import APART, collected_seeds, demonstration_seed, evaluation_seed, training_seeds, whole_groups


def test_no_kind_of_game_meets_another() -> None:
    """First and last games of the first and last run seed that is promised; in between, seeds grow with both."""
    ends = [(seed, game) for seed in (0, 99_998) for game in (0, APART - 1)]
    learned = {
        "training": [2 * (seed * APART + game) for seed, game in ends],
        "demonstrations": [demonstration_seed(seed, game) for seed, game in ends],
        "collected": [seed for last in (0, 99_998) for seed in collected_seeds(3, last)],
    }
    assert learned["training"] == [training_seeds(seed, [game], 1)[0] for seed, game in ends]
    for one, other in combinations(learned.values(), 2):
        assert max(one) < min(other)
    assert all(seed % 2 == 0 for seeds in learned.values() for seed in seeds)
    assert all(evaluation_seed(game) % 2 for game in (0, 1, 10**9))


def test_run_seeds_share_no_games() -> None:
    assert training_seeds(0, [APART - 1], 1)[0] < training_seeds(1, [0], 1)[0]


def test_a_group_plays_one_task() -> None:
    assert training_seeds(0, range(6), 3) == [0, 0, 0, 2, 2, 2]
    assert [whole_groups(games, 8) for games in (0, 1, 8, 9)] == [0, 8, 8, 16]
