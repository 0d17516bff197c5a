"""Low levels: how the actor learns from advantages. A new one is a file here and a line in the dictionary."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from archer.algorithms.low import awr, baseline, cloning, filtered, ppo, reinforce
from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics

LOW_LEVELS: dict[str, Callable[[Spoken, ActorConfig], tuple[Tensor, Metrics]]] = {
    "reinforce": reinforce.loss,
    "baseline": baseline.loss,
    "ppo": ppo.loss,
    "awr": awr.loss,
    "filtered": filtered.loss,
    "cloning": cloning.loss,
}
"""Loss of some utterances, and what to log about it."""
TRUSTING = frozenset({"reinforce", "baseline", "ppo"})
"""Those that weigh what another engine said (``Spoken.trust``): policy gradients. Likelihoods have no ratio."""
