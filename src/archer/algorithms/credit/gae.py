"""Generalised advantage estimation over turns (Schulman et al. 2016; turn-level PPO, arXiv 2512.17008).

    A_t = Σ_l (γ λ)^l δ_{t+l},   δ_t = r_t + γ V(s_{t+1}) - V(s_t)      that is, the λ-return of the game minus V(s_t)

All tokens of an utterance have its advantage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archer.algorithms.credit.shares import Shares, over_tokens, values_of, whiten
from archer.algorithms.high.targets import returns_of
from archer.config import CriticConfig
from archer.models.critic import Critic
from archer.types import Episode


def credit(episodes: Sequence[Episode], critic: Critic | None, config: CriticConfig) -> list[Shares]:
    """Whitened over all turns; V is the mean of both heads."""
    advantages: list[Tensor] = []
    for part, values in values_of(episodes, critic):
        gained = (returns_of(values, part, config.discount, config.trace) - values.v).mean(dim=-1)
        advantages += torch.split(gained, [len(episode) for episode in part])
    return [over_tokens(turns, episode) for turns, episode in zip(whiten(advantages), episodes, strict=True)]
