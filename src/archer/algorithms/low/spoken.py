"""What low levels share: utterances with what they are worth, and the advantages that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from archer.models.critic import Values
from archer.types import Utterance


@dataclass(frozen=True)
class Spoken:
    """N utterances of T tokens in all."""

    logprobs: Tensor
    """Log-probability of every token under the actor as it is, [T]; with its gradient."""
    sampled: Tensor
    """The same under the policy that said it, [T]; NaN where no policy did."""
    trust: Tensor
    """How far each token stands for one that the policy would have sampled, [T]: 1 where the built-in engine said it,
    else what the learner's probability of it, as it was played, is of the engine's, capped (``ratio_cap``)."""
    advantage: Tensor
    """What each token is worth more than expected, [T]; but for a token critic, the same for all of an utterance."""
    baseline: Tensor
    """Learned value of what stood before each token, in the same terms, [T]; 0 where none is learned."""
    utterances: int
    """N."""
    unit: float
    """The critic's: the spread of the returns that advantages are differences of; 1 for credit (``credit/``), which has
    none."""


def engine_trust(utterances: Sequence[Utterance], cap: float) -> Tensor:
    """Truncated importance weights min(π / μ, cap) of every token, [T]: π the learner's policy that played, μ the same
    as another engine computed it and sampled from (Yao et al. 2025, "Your efficient RL framework secretly brings you
    off-policy RL training"); 1 where that was the built-in one.
    """
    ratios = [
        np.ones(len(said.ids), np.float32)
        if said.engine_logprobs is None
        else np.exp(said.logprobs - said.engine_logprobs)
        for said in utterances
    ]
    return torch.from_numpy(np.minimum(np.concatenate(ratios), np.float32(cap)))


def value_advantage(values: Values) -> Tensor:
    """min Q(s, ã_k) - min V(s), shape [N, K]: the paper's."""
    return values.q_siblings.amin(dim=-1) - values.v.amin(dim=-1)[:, None]


def siblings_advantage(values: Values) -> Tensor:
    """min Q(s, ã_k) minus the mean of the other siblings' min Q, shape [N, K]; K must be at least 2.

    The leave-one-out mean is an unbiased baseline that needs no V and cancels any offset between the heads of Q and V
    (Kool et al. 2019).
    """
    q = values.q_siblings.amin(dim=-1)
    count = q.shape[1]
    return (q - q.mean(dim=1, keepdim=True)) * (count / (count - 1))


def played_advantage(values: Values) -> Tensor:
    """min Q(s, a) - min V(s) of the utterances that were played, shape [N]."""
    return values.q.amin(dim=-1) - values.v.amin(dim=-1)


ADVANTAGES: dict[str, Callable[[Values], Tensor]] = {"value": value_advantage, "siblings": siblings_advantage}
