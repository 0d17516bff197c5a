"""Episodes as tensors: conversations packed in rows, siblings as branches of a tree behind their conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archer.models.packing import Siblings, Stretch, pack, stretches_of
from archer.types import Episode, Utterance


@dataclass(frozen=True)
class EpisodeBatch:
    """B episodes with N turns, tokenised, packed and indexed for one forward pass.

    A stretch is a conversation as long as it only grew, and behind it the sibling utterances of its states. A sibling
    token sees the tokens of its state and of its own utterance, at the positions it would have had if it had been
    played (tree attention), so one pass gives the values and log-probabilities of everything. A row of the batch holds
    as many stretches as fit beside each other; none sees another.
    """

    episodes: tuple[Episode, ...]
    siblings: tuple[tuple[Utterance, ...], ...]
    """K siblings of every turn, in turn order, shape [N][K]."""
    ids: Tensor
    """Token ids, int64 [rows, width]; 0 where nothing stands."""
    positions: Tensor
    """Position of each token in its own conversation, int64 [rows, width]."""
    stretch: Tensor
    """Number of the stretch each token is of, -1 on padding; int64 [rows, width]."""
    branch: Tensor
    """0 on the conversation itself, 1.. on its siblings, -1 on padding; int64 [rows, width]."""
    visible: Tensor
    """Position up to which each token sees its conversation besides its own branch, int64 [rows, width]."""
    row: Tensor
    """Row of each turn, int64 [N]."""
    turn_stretch: Tensor
    """Stretch of each turn, int64 [N]."""
    state_at: Tensor
    """Column of the last token of each turn's state, int64 [N]."""
    utterance_at: Tensor
    """Column of the last token of each turn's utterance, int64 [N]."""
    sibling_at: Tensor
    """Column of the last token of each sibling, int64 [N, K]."""
    final_row: Tensor
    """Row of each episode's final state, int64 [B]."""
    final_stretch: Tensor
    """Stretch of each episode's final state, int64 [B]."""
    final_at: Tensor
    """Column of the last token of each episode's final state, int64 [B]."""
    lengths: tuple[int, ...]
    """Turns of each episode; they add up to N."""

    @property
    def siblings_per_state(self) -> int:
        return self.sibling_at.shape[1]

    def attention_mask(self, dtype: torch.dtype, window: int | None = None) -> Tensor:
        """Additive mask, 0 where a token may look and the dtype's minimum elsewhere, shape [rows, 1, width, width].

        window: how many tokens each may look at, itself included and counted on its own branch; None is all.
        """
        same_stretch = self.stretch[:, :, None] == self.stretch[:, None, :]
        on_trunk = (self.branch == 0)[:, None, :] & (self.positions[:, None, :] < self.visible[:, :, None])
        same_branch = self.branch[:, :, None] == self.branch[:, None, :]
        own_past = same_branch & (self.positions[:, None, :] <= self.positions[:, :, None])
        allowed = same_stretch & (on_trunk | own_past)
        if window is not None:
            allowed &= self.positions[:, :, None] - self.positions[:, None, :] < window
        mask = torch.zeros(allowed.shape, dtype=dtype, device=self.ids.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]

    def utterance_tokens(self) -> TokenIndex:
        """Where every token of the played utterances is predicted and stands."""
        start = self.state_at + 1
        return _token_index(self.row, self.state_at, start, self.utterance_at + 1)

    def observation_tokens(self) -> TokenIndex:
        """Where every token of the environment's answers is predicted and stands, for turns whose row goes on."""
        next_at = after_each_turn(self.state_at, self.final_at, self.lengths)
        goes_on = after_each_turn(self.turn_stretch, self.final_stretch, self.lengths) == self.turn_stretch
        said_at = self.utterance_at[goes_on]
        return _token_index(self.row[goes_on], said_at, said_at + 1, next_at[goes_on] + 1)

    def sibling_tokens(self) -> TokenIndex:
        """Where every token of the siblings is predicted and stands; utterance n·K + k is sibling k of turn n."""
        count = self.siblings_per_state
        lengths = torch.tensor(
            [len(utterance.ids) for group in self.siblings for utterance in group],
            dtype=torch.long,
            device=self.ids.device,
        )
        end = self.sibling_at.reshape(-1) + 1
        return _token_index(
            self.row.repeat_interleave(count), self.state_at.repeat_interleave(count), end - lengths, end
        )

    def to(self, device: torch.device) -> EpisodeBatch:
        """The same batch with its tensors on ``device``."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class TokenIndex:
    """Coordinates of the T tokens of some utterances in a batch: who predicts each one, and where it stands."""

    row: Tensor
    """int64 [T]."""
    predicted_at: Tensor
    """Column whose output predicts the token, int64 [T]."""
    stands_at: Tensor
    """Column of the token itself, int64 [T]."""
    utterance: Tensor
    """Index of the utterance that each token belongs to, int64 [T]."""


def after_each_turn(states: Tensor, final: Tensor, lengths: Sequence[int]) -> Tensor:
    """What belongs to the state that follows each turn: the next turn's, or the final state's after the last, [N, ...].

    states: [N, ...], one entry per turn of B episodes laid end to end; final: [B, ...]; lengths: their turns.
    """
    ends = torch.tensor(lengths, device=states.device).cumsum(0) - 1
    return torch.cat([states[1:], states[-1:]]).index_copy(0, ends, final)


def _token_index(row: Tensor, state_at: Tensor, start: Tensor, end: Tensor) -> TokenIndex:
    lengths = end - start
    utterance = torch.arange(len(row), device=row.device).repeat_interleave(lengths)
    offset = torch.arange(len(utterance), device=row.device) - (lengths.cumsum(0) - lengths)[utterance]
    stands_at = start[utterance] + offset
    # The first token is predicted by the last token of the state, which on a branch is not the column before it.
    predicted_at = torch.where(offset == 0, state_at[utterance], stands_at - 1)
    return TokenIndex(row=row[utterance], predicted_at=predicted_at, stands_at=stands_at, utterance=utterance)


def collate(episodes: Sequence[Episode], siblings: Sequence[Siblings] | None = None) -> EpisodeBatch:
    """Lay B episodes, and K siblings of each of their states where given, on packed rows.

    ``siblings`` has one entry per episode, shape [B][turns][K], K the same everywhere. An episode whose environment
    rewrites its history gets a new stretch wherever the old one does not continue.
    """
    stretches: list[Stretch] = []
    turn_stretch: list[int] = []
    first_branch: list[int] = []
    final_stretch: list[int] = []
    for b, episode in enumerate(episodes):
        own, own_stretch, own_branch = stretches_of(episode, None if siblings is None else siblings[b])
        turn_stretch += [len(stretches) + number for number in own_stretch]
        first_branch += own_branch
        stretches += own
        final_stretch.append(len(stretches) - 1)
    turns = [turn for episode in episodes for turn in episode.turns]
    state_at = [len(turn.prompt_ids) - 1 for turn in turns]
    utterance_at = [state + len(turn.utterance.ids) for state, turn in zip(state_at, turns, strict=True)]
    final_at = [len(episode.final_prompt_ids) - 1 for episode in episodes]
    groups = [tuple(group) for said in siblings for group in said] if siblings is not None else [()] * len(turns)

    lengths = [len(stretch) for stretch in stretches]
    rows, starts = (np.array(found) for found in pack(lengths))
    packed = np.zeros((5, int(rows.max()) + 1, max(lengths)), np.int64)
    packed[2:4] = -1
    for number, stretch in enumerate(stretches):
        packed[:, rows[number], starts[number] : starts[number] + lengths[number]] = stretch.columns(number)
    ids, positions, stretch_of, branch, visible = torch.from_numpy(packed)
    ends = [stretch.branch_ends() for stretch in stretches]
    siblings_at = [
        [int(starts[number] + ends[number][first + k]) for k in range(len(group))]
        for number, first, group in zip(turn_stretch, first_branch, groups, strict=True)
    ]
    return EpisodeBatch(
        episodes=tuple(episodes),
        siblings=tuple(groups),
        ids=ids,
        positions=positions,
        stretch=stretch_of,
        branch=branch,
        visible=visible,
        row=torch.from_numpy(rows[turn_stretch]),
        turn_stretch=torch.tensor(turn_stretch),
        state_at=torch.from_numpy(starts[turn_stretch] + state_at),
        utterance_at=torch.from_numpy(starts[turn_stretch] + utterance_at),
        sibling_at=torch.tensor(siblings_at, dtype=torch.long).reshape(len(turn_stretch), -1),
        final_row=torch.from_numpy(rows[final_stretch]),
        final_stretch=torch.tensor(final_stretch),
        final_at=torch.from_numpy(starts[final_stretch] + final_at),
        lengths=tuple(len(episode) for episode in episodes),
    )
