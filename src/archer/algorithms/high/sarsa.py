"""SARSA: values of the policies that played the stored games (ArCHer, offline ablation; Rummery & Niranjan 1994).

    Q_i(s, a) <- r + γ V̄_i(s')
    V_i(s)    <- Q̄_i(s, a)              a as it was played

Nothing is sampled, so it learns from logs alone; but V never becomes the current policy's.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, returns_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """λ-returns for Q, Q̄ of the played utterances for V."""
    return Targets(q=returns_of(target, episodes, config.discount, config.trace), v=target.q)
