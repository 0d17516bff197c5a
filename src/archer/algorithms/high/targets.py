"""What high levels share: the targets they set, and λ-returns of a batch of games."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from archer.models.critic import Values
from archer.returns import lambda_returns
from archer.types import Episode


@dataclass(frozen=True)
class Targets:
    """What both heads of Q and V are to become at the N turns of a batch."""

    q: Tensor
    """[N, H]."""
    v: Tensor
    """[N, H]."""
    expectile: float = 0.5
    """Expectile of its targets that V learns: 0.5 is their mean, 1 would be their maximum."""


def returns_of(target: Values, episodes: Sequence[Episode], discount: float, trace: float) -> Tensor:
    """λ-returns of every turn of ``episodes`` with the target critic's V behind it, [N, H]."""
    lengths = tuple(len(episode) for episode in episodes)
    return lambda_returns(
        torch.from_numpy(np.concatenate([episode.rewards for episode in episodes])).to(target.v),
        target.v_next(lengths),
        [episode.terminated for episode in episodes],
        lengths,
        discount=discount,
        trace=trace,
    )
