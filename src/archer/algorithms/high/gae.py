"""λ-returns: Q and V of the policies that played, between one step and Monte Carlo (Schulman et al. 2016).

    V_i(s), Q_i(s, a) <- r + γ [(1 - λ) V̄_i(s') + λ G']         G' the same of the next turn

With replay_turns=0 these are the newest policy's games, and V is on-policy: what turn-level PPO takes its advantages
from (``credit/gae.py``). λ = ``critic.trace``.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, returns_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """λ-returns for both."""
    returns = returns_of(target, episodes, config.discount, config.trace)
    return Targets(q=returns, v=returns)
