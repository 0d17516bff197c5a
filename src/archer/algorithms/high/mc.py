"""Monte Carlo: Q and V regress on the returns of the stored games (ArCHer, online ablation).

    Q_i(s, a), V_i(s) <- r + γ r' + γ² r'' + ...

Unbiased for the policies that played, whatever the critic; noisy, and slow to notice that the policy has changed. A
truncated game keeps the target critic's V of its last state behind it, because it was us who stopped it.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, returns_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """Discounted returns for both; ``config.trace`` has no say."""
    returns = returns_of(target, episodes, config.discount, trace=1.0)
    return Targets(q=returns, v=returns)
