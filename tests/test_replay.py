"""What replay keeps, and how evenly it is drawn from."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from archer.replay import Replay, draw
from archer.types import End, Episode, Turn, Utterance

SAID = Utterance(np.ones(1, np.int32), np.zeros(1, np.float32), "")


def _game(number: int, turns: int = 2, reward: float = 0.0) -> Episode:
    said = tuple(Turn(np.ones(1, np.int32), SAID, "", reward / turns, {}) for _ in range(turns))
    return Episode(said, End.TERMINATED, np.ones(2, np.int32), seed=number, task="x", policy_version=0)


def _seeds(episodes: object) -> list[int]:
    return [episode.seed for episode in episodes]  # type: ignore[attr-defined]


def test_the_oldest_are_forgotten_beyond_capacity() -> None:
    replay = Replay(5)
    replay.add([_game(0), _game(1), _game(2)])  # six turns
    assert (_seeds(replay), replay.turns, len(replay)) == ([1, 2], 4, 2)
    replay.add([_game(3, turns=9)])
    assert (_seeds(replay), replay.turns) == ([3], 9)  # the newest stays, however long


def test_capacity_0_holds_what_was_added_last() -> None:
    replay = Replay(0)
    replay.add([_game(0), _game(1)])
    replay.add(iter([_game(2), _game(3), _game(4)]))
    assert (_seeds(replay), replay.turns) == ([2, 3, 4], 6)


def test_the_newest_hold_as_many_turns_as_asked() -> None:
    replay = Replay(100)
    replay.add(_game(number) for number in range(6))
    assert _seeds(replay.newest(3)) == [5, 4]  # two turns each: two games for three turns
    drawn = replay.sample(100, np.random.default_rng(0), newest=3)
    assert sorted(_seeds(drawn)) == [4, 5]


def test_the_best_are_exactly_a_fraction_and_of_equals_the_newest() -> None:
    replay = Replay(100)
    replay.add(_game(number, reward=reward) for number, reward in enumerate([1.0, 5.0, 1.0, 1.0, -2.0, 1.0]))
    assert _seeds(replay.best(0.5)) == [1, 5, 3]
    assert _seeds(replay.best(0.01)) == [1]


def test_a_game_that_failed_is_none_of_the_best() -> None:
    replay = Replay(100)
    cut = dataclasses.replace(_game(9, reward=0.0), end=End.ENV_ERROR)
    replay.add([_game(0, reward=-5.0), cut, _game(1, reward=-7.0), dataclasses.replace(cut, end=End.TIMEOUT)])
    assert _seeds(replay.best(0.5)) == [0] and _seeds(replay.best(1.0)) == [0, 1]
    replay = Replay(100)
    replay.add([cut, cut])
    assert _seeds(replay.best(0.5)) == [9]  # there is nothing else


def test_games_are_drawn_evenly_and_without_repeats() -> None:
    pool = [_game(number) for number in range(5)]
    generator = np.random.default_rng(0)
    met: Counter[int] = Counter()
    for _ in range(1000):
        drawn = _seeds(draw(pool, 4, generator))
        assert len(set(drawn)) == len(drawn) == 2
        met.update(drawn)
    # 400 expected of each; a standard deviation is (1000 · .4 · .6)^½ = 15.5
    assert all(abs(met[number] - 400) < 5 * 15.5 for number in range(5))


def test_an_empty_replay_says_so() -> None:
    with pytest.raises(ValueError, match="add episodes first"):
        Replay(10).sample(1, np.random.default_rng(0))
