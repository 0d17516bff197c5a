"""What low levels share: utterances with what they are worth, and the advantages that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from archer.models.critic import Values


@dataclass(frozen=True)
class Spoken:
    """N utterances of T tokens in all."""

    logprobs: Tensor
    """Log-probability of every token under the actor as it is, [T]; with its gradient."""
    sampled: Tensor
    """The same under the policy that said it, [T]; NaN where no policy did."""
    advantage: Tensor
    """What each token is worth more than expected, [T]; but for a token critic, the same for all of an utterance."""
    baseline: Tensor
    """Learned value of what stood before each token, in the same terms, [T]; 0 where none is learned."""
    utterances: int
    """N."""
    unit: float
    """The critic's: the spread of the returns that advantages are differences of."""


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
