"""Low levels: how the actor learns from advantages. A new one is a file here and a line in the dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from archer.algorithms.low import awr, filtered, ppo, reinforce
from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics


@dataclass(frozen=True)
class LowLevel:
    """A way to change what the actor says."""

    loss: Callable[[Spoken, ActorConfig], tuple[Tensor, Metrics]]
    """Loss of some utterances, and what to log about it."""
    resamples: bool = False
    """Whether it learns from utterances of the policy as it is, and not from those that were played."""


LOW_LEVELS: dict[str, LowLevel] = {
    "reinforce": LowLevel(reinforce.loss, resamples=True),
    "ppo": LowLevel(ppo.loss, resamples=True),
    "awr": LowLevel(awr.loss),
    "filtered": LowLevel(filtered.loss),
}
