"""Temporal differences with resampled utterances: online ArCHer (arXiv 2402.19446, section 3.3).

    Q_i(s, a) <- r + γ V̄_i(s')          (s, a, r, s') from replay, played by any past policy
    V_i(s)    <- Q̄_i(s, ã), ã ~ π(s)    sampled afresh from the current policy

Each of the two heads bootstraps on itself; the minimum is taken by the actor only. V follows the current policy, and Q
follows V: that is what makes old games usable. With ``trace`` > 0 (not in the paper) the Q target is the λ-return of
the stored game instead of its one-step form.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, returns_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """λ-returns for Q, the mean over resampled utterances for V."""
    return Targets(
        q=returns_of(target, episodes, config.discount, config.trace),
        v=target.q_siblings.mean(dim=1),
    )
