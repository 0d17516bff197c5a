"""Cloning: likelihood of what was played, all utterances alike (behaviour cloning; with the best games, filtered).

    L = - 1/N Σ_n Σ_l log π(a^l | s, a^{<l})

No critic is asked. What it learns is decided by whose games it is shown: all of a data set, or the best by return
(``filtered-bc``).
"""

from __future__ import annotations

from torch import Tensor

from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics, reinforce_loss


def loss(spoken: Spoken, config: ActorConfig) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood."""
    return reinforce_loss(spoken.logprobs, spoken.advantage, spoken.utterances)
