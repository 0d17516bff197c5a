"""What does not grow: the cost of a token with the length of games, and of a batch with the size of replay."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np

from archer.benchmarks.measure import timed
from archer.benchmarks.workloads import OBSERVATION, Shape, build_actor, play_games
from archer.replay import Replay
from archer.types import End, Episode, Turn, Utterance


def token_cost(shape: Shape, turns: tuple[int, ...] = (20, 200), games: int = 16) -> dict[int, float]:
    """Microseconds per token of a conversation, by the number of turns in a game."""
    actor = build_actor(shape)
    play_games(actor, replace(shape, turns=2), 2)
    costs = {}
    for count in turns:
        longer = replace(shape, turns=count)
        tokens, seconds = timed(lambda longer=longer: _tokens(play_games(actor, longer, games)))  # type: ignore[misc]
        costs[count] = 1e6 * seconds / tokens
    return costs


def replay_cost(sizes: tuple[int, ...] = (10_000, 1_000_000), turns: int = 20) -> dict[int, float]:
    """Milliseconds to draw a batch of 256 turns, by the number of turns in replay."""
    costs = {}
    game = _game(turns)
    for size in sizes:
        replay = Replay(size)
        replay.add([game] * (size // turns))
        generator = np.random.default_rng(0)
        _, seconds = timed(lambda replay=replay, generator=generator: _draw(replay, generator, 100))  # type: ignore[misc]
        costs[size] = 10 * seconds
    return costs


def turn_bytes(games: int = 200, turns: int = 20) -> float:
    """Bytes that replay keeps for a turn of ten tokens heard and ten said; `replay_turns` bounds how many it keeps."""
    tracemalloc.start()
    replay = Replay(games * turns)
    replay.add(_game(turns) for _ in range(games))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / (games * turns)


def _tokens(episodes: list[Episode]) -> float:
    return float(sum(len(episode.final_prompt_ids) for episode in episodes))


def _draw(replay: Replay, generator: np.random.Generator, batches: int) -> float:
    return float(sum(len(replay.sample(256, generator)) for _ in range(batches)))


def _game(turns: int, heard: int = 11, said: int = 10) -> Episode:
    """A game of this many turns, as playing would have left it."""
    whole = np.zeros(turns * (heard + said) + heard, np.int32)
    played = tuple(
        Turn(
            prompt_ids=whole[: turn * (heard + said) + heard],
            utterance=Utterance(np.zeros(said, np.int32), np.zeros(said, np.float32), f"a question, number {turn}"),
            observation=OBSERVATION,
            reward=-1.0,
        )
        for turn in range(turns)
    )
    return Episode(played, End.TERMINATED, whole, seed=0, task="talk", policy_version=0)
