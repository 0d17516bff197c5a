"""Siblings: utterances the current policy would say at states that were played before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from archer.models.actor import Actor
from archer.rollout.cache import SlotCache
from archer.rollout.engine import Engine, Sampling
from archer.types import Episode, Ids, Utterance

ROWS = 256
"""States decoded at once."""


class SiblingSampler:
    """Draws utterances of the actor, as it is at each call, at states of stored episodes.

    Each conversation is encoded once, in parallel; its states then branch off that cache, so a sample costs only its
    own tokens. Nothing is sent to an environment. The cache is kept between calls: fresh memory costs more than the
    arithmetic.
    """

    def __init__(self, actor: Actor, sampling: Sampling) -> None:
        self.actor = actor
        self.sampling = sampling
        self._cache: SlotCache | None = None

    def sample(self, episodes: Sequence[Episode], count: int, seed: Sequence[int]) -> list[list[list[Utterance]]]:
        """``count`` utterances at every state of every episode, shape [episodes][turns][count]."""
        places = [(e, t) for e, episode in enumerate(episodes) for t in range(len(episode))]
        groups = iter(
            self.at([episodes[e].turns[t].prompt_ids for e, t in places], count, [[*seed, e, t] for e, t in places])
        )
        return [[next(groups) for _ in episode.turns] for episode in episodes]

    def at(self, states: Sequence[Ids], count: int, seeds: Sequence[Sequence[int]]) -> list[list[Utterance]]:
        """``count`` utterances at every state, each state with a seed of its own, shape [states][count].

        Fastest where states of one conversation follow each other, the earlier ones first.
        """
        groups: list[list[Utterance]] = [[] for _ in states]
        jobs = [(index, k) for index in range(len(states)) for k in range(count)]
        for start in range(0, len(jobs), ROWS):
            chunk = jobs[start : start + ROWS]
            spoken = self._decode([states[index] for index, _ in chunk], [[*seeds[index], k] for index, k in chunk])
            for (index, _), utterance in zip(chunk, spoken, strict=True):
                groups[index].append(utterance)
        return groups

    def _decode(self, states: Sequence[Ids], seeds: Sequence[Sequence[int]]) -> list[Utterance]:
        """One utterance at each state."""
        # 1. Encode each conversation once: its longest wanted state, or several where the environment rewrites history.
        trunk_of: list[int] = []
        trunks: list[Ids] = []
        for state in reversed(states):  # longest first, so that the earlier states are found to be its prefixes
            if not trunks or not np.array_equal(trunks[-1][: len(state)], state):
                trunks.append(state)
            trunk_of.append(len(trunks) - 1)
        longest = max(len(trunk) for trunk in trunks)
        encoder = Engine(self.actor, len(trunks), longest, self.sampling)
        for trunk in trunks:
            encoder.open(trunk, [0])
        encoder.prefill(np.arange(len(trunks)))
        # 2. Branch: the last token of a state is fed again on its own row, because its output is what we sample from.
        capacity = longest + self.sampling.max_tokens
        if self._cache is None or self._cache.tokens < capacity:
            self._cache = SlotCache(len(encoder.cache.layers), ROWS, capacity)
        self._cache.branch_from(encoder.cache, torch.tensor(trunk_of[::-1], device=self.actor.device), longest)
        engine = Engine(self.actor, len(states), capacity, self.sampling, self._cache)
        for state, seed in zip(states, seeds, strict=True):
            engine.open(state, seed, cached=len(state) - 1)
        # 3. Decode until every branch has stopped.
        owner = list(range(len(states)))
        done: dict[int, Utterance] = {}
        while engine.active:
            for row in sorted(engine.step().tolist(), reverse=True):
                done[owner[row]] = engine.utterance(row)
                owner[row] = owner[engine.close(row)]
        return [done[job] for job in range(len(states))]
