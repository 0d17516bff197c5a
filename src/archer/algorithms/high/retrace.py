"""Retrace: ArCHer's temporal differences with traces as long as the policy agrees with what was said.

    Q_i(s, a) <- r + γ [V̄_i(s') + c' (G' - Q̄_i(s', a'))]     c' = λ min(1, π(a'|s') / μ(a'|s'))
    V_i(s)    <- Q̄_i(s, ã), ã ~ π(s)                          as in ``td``

(Munos et al. 2016, arXiv 1606.02647.) A fixed λ has to choose: long traces learn fast and learn what became of an
utterance when an old policy went on from it, short ones trust a critic that may know nothing yet. Here games by
policies like the present one are followed to their end, and old ones as far as they are still like it. μ is what was
logged when the game was played; for demonstrations, whose player is not known, the supervised start's.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, rewards_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.returns import retrace_returns
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """Retrace for Q, the mean over resampled utterances for V."""
    lengths = tuple(len(episode) for episode in episodes)
    q = retrace_returns(
        rewards_of(target, episodes),
        target.q,
        target.v_next(lengths),
        config.trace * target.ratio.clamp(max=1.0),
        [episode.terminated for episode in episodes],
        lengths,
        discount=config.discount,
    )
    return Targets(q=q, v=target.q_siblings.mean(dim=1))
