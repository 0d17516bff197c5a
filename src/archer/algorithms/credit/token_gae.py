"""Generalised advantage estimation over tokens: what token-level PPO, the paper's baseline, learns from.

    A_l = Σ_j (γ λ)^j δ_{l+j}
    δ_l = V(next prefix) - V(prefix) inside an utterance, r + γ V(s') - V(prefix) at its end

γ applies between utterances only, λ at every token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archer.algorithms.credit.shares import Shares, values_of, whiten
from archer.algorithms.high.targets import token_returns_of
from archer.config import CriticConfig
from archer.models.critic import Critic
from archer.types import Episode


def credit(episodes: Sequence[Episode], critic: Critic | None, config: CriticConfig) -> list[Shares]:
    """Whitened over all tokens; V is the mean of both heads."""
    advantages: list[Tensor] = []
    for part, values in values_of(episodes, critic, by_token=True):
        gained = (token_returns_of(values, part, config.discount, config.trace) - values.v_tokens).mean(dim=-1)
        advantages += torch.split(gained, [episode.tokens_said for episode in part])
    return whiten(advantages)
