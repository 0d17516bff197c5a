"""PPO's clipped objective with the utterance's advantage on each of its tokens (Schulman et al. 2017, eq. 7).

    L = - 1/N Σ_n Σ_l min( ρ_l A_n, clip(ρ_l, 1 - ε, 1 + ε) A_n ),    ρ_l = π(ã^l | ...) / π_sampled(ã^l | ...)

Tokens of another engine than the built-in one are weighed besides (``Spoken.trust``): ρ is between the learner now and
the learner that played, so that clipping judges how far the policy has moved and not how the engine rounds.

The clip makes it safe to take several steps (``epochs``) on the same sampled utterances. At the first of them ρ is 1,
and the gradient REINFORCE's.
"""

from __future__ import annotations

from torch import Tensor

from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics, clip_loss


def loss(spoken: Spoken, config: ActorConfig) -> tuple[Tensor, Metrics]:
    """The clipped objective."""
    worth = spoken.trust * spoken.advantage  # never negative, so it may stand inside the minimum
    return clip_loss(spoken.logprobs, spoken.sampled, worth, spoken.utterances, config.clip_ratio)
