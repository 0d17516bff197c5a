"""The games that a plan is made for: as long as the settings allow, or as the demonstrations are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archer.config import RunConfig
from archer.models.batch import collate
from archer.replay import draw
from archer.rollout.siblings import ROWS
from archer.types import End, Episode, Turn, Utterance

DRAWS = 50
"""Batches that are drawn to find a large one."""


@dataclass(frozen=True)
class Games:
    """Games to learn from."""

    pool: Sequence[Episode]
    assumed: str
    """Where their size is from, in words."""

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(_tokens(episode) for episode in self.pool)

    def batch(self, turns: int) -> list[Episode]:
        """As many as hold ``turns`` turns; of many draws, the one that takes most room."""
        generator = np.random.default_rng(0)
        return max((draw(self.pool, turns, generator) for _ in range(self._draws)), key=_room)

    def several(self, count: int) -> list[Episode]:
        """``count`` games, likewise."""
        generator = np.random.default_rng(1)
        drawn = [
            [self.pool[index] for index in generator.choice(len(self.pool), min(count, len(self.pool)), replace=False)]
            for _ in range(self._draws)
        ]
        return max(drawn, key=_room)

    @property
    def _draws(self) -> int:
        return 1 if len({(_tokens(episode), len(episode)) for episode in self.pool}) == 1 else DRAWS


def alike(config: RunConfig, turns: int, tokens: int, assumed: str) -> Games:
    """Games of ``turns`` turns and ``tokens`` tokens each, enough of them for any batch of the run.

    Half of what there is to read is said by the agent, up to ``rollout.utterance_tokens`` a turn. Where the agent reads
    everything anew in each turn (``rollout.history=replace``), every state is as long.
    """
    rewritten = config.rollout.history != "append"
    most = max(config.critic.batch_turns, config.actor.batch_turns, ROWS)
    count = max(64, -(-most // turns), config.supervised.batch_games)
    return Games([_game(turns, tokens, config.rollout.utterance_tokens, rewritten) for _ in range(count)], assumed)


def _game(turns: int, tokens: int, longest: int, rewritten: bool) -> Episode:
    said = max(1, min(longest, tokens // turns // 2))
    utterance = Utterance(np.zeros(said, np.int32), np.zeros(said, np.float32), "a " * said)
    whole = np.zeros(max(tokens, turns * (said + 1)), np.int32)
    ends = [len(whole) * (turn + 1) // turns for turn in range(turns)]
    played = []
    for number, end in enumerate(ends):
        state = np.full(len(whole) - said, number + 1, np.int32) if rewritten else whole[: end - said]
        played.append(Turn(state, utterance, "", 0.0, {}))
    final = np.full(len(whole), turns, np.int32) if rewritten else whole
    return Episode(tuple(played), End.TERMINATED, final, seed=0, task="", policy_version=0)


def _tokens(episode: Episode) -> int:
    return max(len(episode.final_prompt_ids), *(len(turn.prompt_ids) for turn in episode.turns))


def _room(episodes: Sequence[Episode]) -> int:
    """Size of a batch's attention masks, the square of its width: what grows fastest."""
    rows, width = collate(episodes).ids.shape
    return int(rows * width * width)
