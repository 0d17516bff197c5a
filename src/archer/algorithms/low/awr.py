"""Advantage-weighted regression: clone what was played, the better the more (Peng et al. 2019; offline ArCHer).

    L = - 1/N Σ_n min( exp(β A_n / u), cap ) Σ_l log π(a^l | s, a^{<l})

It never leaves what the data shows, so the critic is never asked about what it has not seen. The cap, which the
original lacks, keeps a single utterance from being all of a batch. u is the critic's unit, the spread of the
demonstrations' returns, so that β does not depend on the size of rewards. It is 1 where there are none, with the
encoder critic, whose values are in units of reward as the original's, and for advantages that have a scale of their
own (``gae``, ``group``, ``steps``).
"""

from __future__ import annotations

from torch import Tensor

from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics, advantage_weights, weighted_cloning_loss


def loss(spoken: Spoken, config: ActorConfig) -> tuple[Tensor, Metrics]:
    """Cloning with weights exp(β A / u), capped."""
    weights = advantage_weights(spoken.advantage / spoken.unit, config.beta, config.weight_cap)
    return weighted_cloning_loss(spoken.logprobs, weights, spoken.utterances)
