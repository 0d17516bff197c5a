"""How conversations lie on the rows of a batch, and how many of them go into one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from archer.types import Episode, Ids, Utterance

Siblings = Sequence[Sequence[Utterance]]
"""K sibling utterances of every turn of one episode, shape [turns][K]."""

TOKENS_AT_ONCE = 1 << 14
"""Most tokens of a pass that keeps nothing for the way back, padding included: few enough for the memory that a large
model takes for each, and no slower for a small one than more would be."""


class Stretch:
    """A growing conversation and the branches behind it, before it has a place on a row."""

    def __init__(self, ids: Ids) -> None:
        self.trunk = ids
        self.branches: list[tuple[int, Ids]] = []

    def grow(self, ids: Ids) -> bool:
        """Whether ``ids`` continue this stretch; if so, it now ends where they end."""
        shared = len(self.trunk)
        if len(ids) < shared or not np.array_equal(ids[:shared], self.trunk):
            return False
        self.trunk = ids
        return True

    def __len__(self) -> int:
        return len(self.trunk) + sum(len(ids) for _, ids in self.branches)

    def columns(self, number: int) -> tuple[np.ndarray, ...]:
        """ids, positions, stretch, branch and visible of all its tokens, each int64 [length]."""
        trunk = np.arange(len(self.trunk))
        parts = [(self.trunk, trunk, np.zeros_like(trunk), trunk + 1)]
        for branch, (state, ids) in enumerate(self.branches, start=1):
            step = np.arange(len(ids))
            parts.append((ids, state + step, np.full_like(step, branch), np.full_like(step, state)))
        ids, positions, branches, visible = (np.concatenate([part[i] for part in parts]) for i in range(4))
        return ids, positions, np.full_like(positions, number), branches, visible

    def branch_ends(self) -> np.ndarray:
        """Column of the last token of every branch, counted from the stretch's own start."""
        return len(self.trunk) - 1 + np.cumsum([len(ids) for _, ids in self.branches])


def stretches_of(episode: Episode, siblings: Siblings | None = None) -> tuple[list[Stretch], list[int], list[int]]:
    """An episode in stretches, and of each of its turns the number of its stretch and of its first branch there.

    Where the environment rewrites its history, a new stretch begins wherever the old one does not continue; the final
    state is on the last.
    """
    stretches = [Stretch(episode.turns[0].prompt_ids)]
    stretch_of: list[int] = []
    first_branch: list[int] = []
    for t, turn in enumerate(episode.turns):
        if not stretches[-1].grow(turn.prompt_ids):
            stretches.append(Stretch(turn.prompt_ids))
        here = stretches[-1]
        stretch_of.append(len(stretches) - 1)
        first_branch.append(len(here.branches))
        if siblings is not None:
            here.branches.extend((len(turn.prompt_ids), utterance.ids) for utterance in siblings[t])
        here.grow(np.concatenate([turn.prompt_ids, turn.utterance.ids]))
    if not stretches[-1].grow(episode.final_prompt_ids):
        stretches.append(Stretch(episode.final_prompt_ids))
    return stretches, stretch_of, first_branch


def stretch_lengths(episode: Episode, siblings: Siblings | None = None) -> list[int]:
    """Tokens of every stretch of an episode, branches included: each a place on a row."""
    return [len(stretch) for stretch in stretches_of(episode, siblings)[0]]


class _Rows:
    """Rows as wide as the longest item on them: first fit, longest first."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.width = max(lengths, default=0)
        self.filled: list[int] = []
        self.places = [(0, 0)] * len(lengths)
        for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
            self.places[item] = self.place(lengths[item])

    def place(self, length: int) -> tuple[int, int]:
        """Row and first column of one item more, no longer than the longest."""
        row = next((row for row, end in enumerate(self.filled) if end + length <= self.width), len(self.filled))
        if row == len(self.filled):
            self.filled.append(0)
        start = self.filled[row]
        self.filled[row] += length
        return row, start


def pack(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Row and first column of items of these lengths on rows as wide as the longest: first fit, longest first."""
    places = _Rows(lengths).places
    return [row for row, _ in places], [start for _, start in places]


def in_parts(episodes: Sequence[Episode], siblings: Sequence[Siblings] | None = None) -> list[slice]:
    """Where to cut episodes, so that each part's batch is one of at most ``TOKENS_AT_ONCE`` tokens, padding included.

    In their order, and by nothing but their lengths and those of the ``siblings``, [B][turns][K] where given. An
    episode that takes more is a part by itself.
    """
    starts: list[int] = []
    rows, held = _Rows([]), list[int]()
    for number, episode in enumerate(episodes):
        own = stretch_lengths(episode, None if siblings is None else siblings[number])
        held += own
        if max(own) > rows.width:
            rows = _Rows(held)
        else:
            for length in own:
                rows.place(length)
        if not starts or len(rows.filled) * rows.width > TOKENS_AT_ONCE:
            starts.append(number)
            rows, held = _Rows(own), own
    return [slice(start, end) for start, end in pairwise([*starts, len(episodes)])]
