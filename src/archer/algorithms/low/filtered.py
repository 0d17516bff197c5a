"""Advantage-filtered cloning: clone only what was better than the state promised (Wang et al. 2020, "binary" CRR).

L = - 1/N Σ_n 1[A_n > threshold] Σ_l log π(a^l | s, a^{<l})
"""

from __future__ import annotations

from torch import Tensor

from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics, weighted_cloning_loss


def loss(spoken: Spoken, config: ActorConfig) -> tuple[Tensor, Metrics]:
    """Cloning of the utterances above the threshold."""
    weights = (spoken.advantage > config.threshold).to(spoken.advantage.dtype)
    return weighted_cloning_loss(spoken.logprobs, weights, spoken.utterances)
