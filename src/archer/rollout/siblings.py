"""Siblings: utterances the current policy would say at states that were played before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from archer import devices
from archer.devices.sharding import put_together
from archer.models.actor import Actor
from archer.rollout.decoders import refresh
from archer.rollout.engine import Engine
from archer.rollout.sampling import Sampling
from archer.types import Episode, Ids, Utterance

NOTHING: Ids = np.zeros(0, np.int32)
ROWS = 512
"""Most utterances decoded at once."""
SLOTS = 1 << 15
"""Most tokens that the conversations decoded behind, and the utterances themselves, have room for at once: what a large
model keeps of each is tens of kilobytes, and more. A longer conversation has a pass to itself."""


class SiblingSampler:
    """Draws utterances of the actor at states of stored episodes.

    Each conversation is encoded once; its states then branch off it, so a sample costs only its own tokens, the first
    of them nothing at all. Nothing is sent to an environment. Caches of up to ``SLOTS`` tokens are kept between calls:
    fresh memory costs more than the arithmetic.
    """

    def __init__(self, actor: Actor, sampling: Sampling) -> None:
        self.actor = actor
        self.sampling = sampling
        self.tokens = 0
        """Tokens of all that ``sample`` has drawn."""
        self._encoder: Engine | None = None
        self._engine: Engine | None = None

    def sample(self, episodes: Sequence[Episode], count: int, seed: Sequence[int]) -> list[list[list[Utterance]]]:
        """``count`` utterances of the actor as it is now, at every state of every episode, [episodes][turns][count].

        Each process draws at its share of the episodes, and all know what has been drawn.
        """
        own = range(devices.number(), len(episodes), devices.count())
        places = [(e, t) for e in own for t in range(len(episodes[e]))]
        with put_together(self.actor):
            refresh(self.actor)
            groups = iter(
                self.at([episodes[e].turns[t].prompt_ids for e, t in places], count, [[*seed, e, t] for e, t in places])
            )
        drawn = [iter(found) for found in devices.gather([[next(groups) for _ in episodes[e].turns] for e in own])]
        found = [next(drawn[e % len(drawn)]) for e in range(len(episodes))]
        self.tokens += sum(len(utterance.ids) for game in found for group in game for utterance in group)
        return found

    def at(self, states: Sequence[Ids], count: int, seeds: Sequence[Sequence[int]]) -> list[list[Utterance]]:
        """``count`` utterances at every state, each state with a seed of its own, shape [states][count].

        The weights are those of the last ``refresh``. Fastest where states of one conversation follow each other, the
        earlier ones first.
        """
        return [
            group
            for part in at_once(states, count, self.sampling.max_tokens)
            for group in self._decode(states[part], count, seeds[part])
        ]

    def _decode(self, states: Sequence[Ids], count: int, seeds: Sequence[Sequence[int]]) -> list[list[Utterance]]:
        """``count`` utterances at each state."""
        # 1. Encode each conversation once: its longest wanted state, or several where the environment rewrites history.
        trunks, trunk_of = conversations(states)
        longest = max(len(trunk) for trunk in trunks)
        self._encoder = encoder = self._room(self._encoder, len(trunks), longest)
        encoder.clear()
        row_of = [encoder.open(trunk, []) for trunk in trunks]
        ends = np.array([(row_of[trunk], len(state) - 1) for trunk, state in zip(trunk_of, states, strict=True)])
        different, line = np.unique(ends, axis=0, return_inverse=True)
        logits = encoder.encode(different[:, 0], different[:, 1])
        # 2. Branch: what is said behind a state sees the state's tokens where they lie.
        self._engine = engine = self._room(self._engine, len(states) * count, self.sampling.max_tokens)
        engine.clear(trunk=encoder)
        rows = [
            engine.open(NOTHING, [*seed, k], shared=(row, column + 1))
            for seed, (row, column) in zip(seeds, ends.tolist(), strict=True)
            for k in range(count)
        ]
        # 3. Decode until every branch has stopped; the first token follows from the state itself.
        said: dict[int, Utterance] = {}
        ended = engine.say(np.array(rows), logits, line.reshape(-1).repeat(count))
        while True:
            for row in ended.tolist():
                said[row] = engine.utterance(row)
            if not engine.active:
                break
            ended = engine.step()
        engine.clear()  # or it would hold on to the trunk
        self._encoder, self._engine = (one if within(one.rows, one.capacity) else None for one in (encoder, engine))
        groups = [rows[start : start + count] for start in range(0, len(rows), count)]
        return [[said[row] for row in group] for group in groups]

    def _room(self, engine: Engine | None, rows: int, tokens: int) -> Engine:
        """``engine`` if it has room for so much, else one that has."""
        before = (engine.rows, engine.capacity) if engine is not None else (0, 0)
        room = room_for(rows, tokens, before)
        return engine if engine is not None and room == before else Engine(self.actor, *room, self.sampling)


def within(rows: int, tokens: int) -> bool:
    """Whether a cache of so many rows of so many tokens may be kept."""
    return rows * tokens <= SLOTS


def room_for(rows: int, tokens: int, before: tuple[int, int]) -> tuple[int, int]:
    """Rows and tokens of a cache that holds so many: as it was before where that is enough, or wide enough for both
    where that is not too much."""
    wider = max(rows, before[0]), max(tokens, before[1])
    return wider if wider == before or within(*wider) else (rows, tokens)


def at_once(states: Sequence[Ids], count: int, longest: int) -> list[slice]:
    """Where to cut states, so that few enough go together: ``ROWS`` utterances, ``count`` of up to ``longest`` tokens
    at each state, and ``SLOTS`` tokens of either conversations or utterances, each as long as the longest."""
    most = max(1, min(ROWS, SLOTS // longest) // count)
    starts: list[int] = []
    trunks = tokens = 0
    for number, state in enumerate(states):
        before = states[number - 1] if number else NOTHING
        goes_on = number > 0 and np.array_equal(state[: len(before)], before)
        trunks, tokens = trunks + (not goes_on), max(tokens, len(state))
        if not starts or number - starts[-1] == most or not within(trunks, tokens):
            starts.append(number)
            trunks, tokens = 1, len(state)
    return [slice(start, end) for start, end in pairwise([*starts, len(states)])]


def conversations(states: Sequence[Ids]) -> tuple[list[Ids], list[int]]:
    """The longest state of each conversation that ``states`` belong to, and which of these each state begins."""
    trunks: list[Ids] = []
    trunk_of: list[int] = []
    for state in reversed(states):  # longest first, so that the earlier states are found to be its prefixes
        if not trunks or not np.array_equal(trunks[-1][: len(state)], state):
            trunks.append(state)
        trunk_of.append(len(trunks) - 1)
    return trunks, trunk_of[::-1]
