"""Implicit Q-learning: values of the best that the data shows (Kostrikov et al. 2021; offline ArCHer, section 3.5).

    Q_i(s, a) <- r + γ V̄_i(s')
    V_i(s)    <- expectile τ of Q̄_i(s, a) over the utterances that were played at s

    L_V = |τ - 1[Q̄ < V]| (Q̄ - V)²

With τ near 1 V comes near the maximum over utterances that occur, without ever asking for the worth of one that does
not: nothing out of distribution is overrated. τ = 0.5 is SARSA.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, returns_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """λ-returns for Q, Q̄ of the played utterances for the expectile that V learns."""
    return Targets(
        q=returns_of(target, episodes, config.discount, config.trace),
        v=target.q,
        expectile=config.expectile,
    )
