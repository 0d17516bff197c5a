"""REINFORCE on utterances resampled at replayed states: ArCHer's low level (arXiv 2402.19446, section 3.4).

    L = - E_{s ~ replay, ã ~ π(s)} [ A(s, ã) Σ_l log π(ã^l | s, ã^{<l}) ]

Every stored state is a bandit whose reward is the critic: no game is played to train the actor. Learning from what was
played, each token of another engine than the built-in one is weighed by how far it stands for the policy's own
(``Spoken.trust``).
"""

from __future__ import annotations

from torch import Tensor

from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics, reinforce_loss


def loss(spoken: Spoken, config: ActorConfig) -> tuple[Tensor, Metrics]:
    """Advantage-weighted log-probabilities."""
    return reinforce_loss(spoken.logprobs, spoken.trust * spoken.advantage, spoken.utterances)
