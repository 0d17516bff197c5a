"""What high levels share: the targets they set, and λ-returns of a batch of games."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from archer.models.batch import after_each_turn
from archer.models.critic import Values
from archer.returns import lambda_returns
from archer.types import Episode


@dataclass(frozen=True)
class Targets:
    """What both heads of Q and V are to become at the N turns or T tokens of a batch; None what is not learned."""

    q: Tensor | None = None
    """[N, H]."""
    v: Tensor | None = None
    """[N, H]."""
    tokens: Tensor | None = None
    """V before every token of the played utterances, [T, H]."""
    expectile: float = 0.5
    """Expectile of its targets that V learns: 0.5 is their mean, 1 would be their maximum."""


def rewards_of(target: Values, episodes: Sequence[Episode]) -> Tensor:
    """Rewards of every turn, [N], where and as what the target critic's values are."""
    return torch.from_numpy(np.concatenate([episode.rewards for episode in episodes])).to(target.v)


def returns_of(target: Values, episodes: Sequence[Episode], discount: float, trace: float) -> Tensor:
    """λ-returns of every turn of ``episodes`` with the target critic's V behind it, [N, H]."""
    lengths = tuple(len(episode) for episode in episodes)
    return lambda_returns(
        rewards_of(target, episodes),
        target.v_next(lengths),
        [episode.terminated for episode in episodes],
        lengths,
        discount=discount,
        trace=trace,
    )


def token_returns_of(values: Values, episodes: Sequence[Episode], discount: float, trace: float) -> Tensor:
    """λ-returns of every token of the played utterances, [T, H]; rewards and γ come at their last tokens.

    One small step after another, which a processor takes faster than an accelerator hears of it.
    """
    v_tokens, v_final = values.v_tokens.cpu(), values.v_final.cpu()
    turns = [turn for episode in episodes for turn in episode.turns]
    ends = torch.tensor([len(turn.utterance.ids) for turn in turns]).cumsum(0) - 1
    rewards = torch.zeros(len(v_tokens)).index_copy(0, ends, torch.tensor([turn.reward for turn in turns]))
    gamma = torch.ones(len(rewards)).index_fill(0, ends, discount)
    lengths = [episode.tokens_said for episode in episodes]
    returns = lambda_returns(
        rewards.to(v_tokens),
        after_each_turn(v_tokens, v_final, lengths),
        [episode.terminated for episode in episodes],
        lengths,
        discount=gamma.to(v_tokens),
        trace=trace,
    )
    return returns.to(values.v_tokens.device)
