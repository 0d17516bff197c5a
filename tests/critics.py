"""Critics whose taste is known."""

from __future__ import annotations

import torch

from archer.models.batch import EpisodeBatch
from archer.models.critic import Critic, Values


class Counts(Critic):
    """Likes long utterances, or with ``middling`` those of three or four tokens: there min(n, 7 - n) is greatest."""

    def __init__(self, middling: bool = False) -> None:
        super().__init__()
        self.middling = middling

    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        length = torch.tensor([[len(u.ids) for u in group] for group in batch.siblings], dtype=torch.float32)
        nothing = torch.zeros(len(batch.row), 2)
        other = 7 - length if self.middling else 2 * length
        none = torch.zeros(0, 2)
        return Values(nothing, nothing, torch.stack([length, other], -1), none, torch.zeros(0), none)
