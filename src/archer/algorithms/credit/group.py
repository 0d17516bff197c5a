"""Group-relative advantages: a game against others of the same task seed (GRPO; Shao et al. 2024, arXiv 2402.03300).

    A_i = (R_i - mean_j R_j) / std_j R_j          j over the games of i's seed

One number for a whole conversation: every token of every turn has it, and no critic is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.credit.shares import Shares, over_tokens, relative_to_group
from archer.config import CriticConfig
from archer.models.critic import Critic
from archer.types import Episode


def credit(episodes: Sequence[Episode], critic: Critic | None, config: CriticConfig) -> list[Shares]:
    """The same for all tokens of a game; ValueError where every seed was played once only."""
    advantages = relative_to_group(episodes)
    return [
        over_tokens([advantage] * len(episode), episode)
        for advantage, episode in zip(advantages, episodes, strict=True)
    ]
