"""Values of single tokens: V before every token of an utterance learns the λ-return over tokens (token-level PPO).

    V_i(s, a^{<l}) <- (1 - λ) V̄_i(s, a^{<=l}) + λ G'                  inside an utterance
    V_i(s, a^{<L}) <- r + γ [(1 - λ) V̄_i(s') + λ G']                  at its last token

The whole conversation is one long string of tokens: there is no Q and no utterance. γ applies between utterances only,
so that an utterance's length costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.high.targets import Targets, token_returns_of
from archer.config import CriticConfig
from archer.models.critic import Values
from archer.types import Episode


def targets(target: Values, episodes: Sequence[Episode], config: CriticConfig) -> Targets:
    """λ-returns of every token."""
    returns = token_returns_of(target, episodes, config.discount, config.trace)
    return Targets(tokens=returns)
