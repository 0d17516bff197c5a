"""High levels: what Q and V of an utterance are fitted to. A new one is a file here and a line in the dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer.algorithms.high import gae, iql, mc, retrace, sarsa, td, tokens
from archer.algorithms.high.targets import Targets
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


@dataclass(frozen=True)
class HighLevel:
    """A way to learn what an utterance is worth."""

    targets: Callable[[Values, Sequence[Episode], CriticConfig], Targets]
    """Targets of a batch from the target critic's values of it."""
    resamples: bool = False
    """Whether V is learned from utterances of the policy as it is, and not from those that were played."""
    reweighs: bool = False
    """Whether it asks how likely the policy as it is would say what was played."""
    by_token: bool = False
    """Whether the values are of single tokens."""


HIGH_LEVELS: dict[str, HighLevel] = {
    "td": HighLevel(td.targets, resamples=True),
    "retrace": HighLevel(retrace.targets, resamples=True, reweighs=True),
    "sarsa": HighLevel(sarsa.targets),
    "iql": HighLevel(iql.targets),
    "mc": HighLevel(mc.targets),
    "gae": HighLevel(gae.targets),
    "tokens": HighLevel(tokens.targets, by_token=True),
}
