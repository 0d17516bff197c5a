"""A critic held against played games: what it says of every turn, beside what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from archer.config import CriticConfig
from archer.health.numbers import ValuedTurns, measure_health
from archer.models.critic import Critic, Values, values_in_parts
from archer.returns import lambda_returns
from archer.types import Episode

LOGGED_GAMES = 64
"""Games of an iteration that its log's numbers are taken from: enough for a curve, and little beside the updates."""


def critic_health(critic: Critic, episodes: Sequence[Episode], config: CriticConfig) -> dict[str, float]:
    """Health of a critic on the first games of an iteration; keys ``critic/...``.

    To be called before the critic learns from them: then they are held-out games. Draws no random numbers.
    """
    health = measure_health(value_turns(critic, episodes[:LOGGED_GAMES], config))
    return {f"critic/{name}": value for name, value in health.metrics().items()}


def value_turns(
    critic: Critic,
    episodes: Sequence[Episode],
    config: CriticConfig,
    report: Callable[[int], None] = lambda games: None,
) -> ValuedTurns:
    """Every turn of at least one episode, as ``critic`` values it and as it came out; ``report`` hears how many more
    episodes are judged."""
    parts: list[tuple[np.ndarray, ...]] = []
    for part, values in values_in_parts(critic, episodes, by_token=config.method == "tokens"):
        parts.append(_valued(values, part, config.discount))
        report(len(part))
    lengths = np.array([len(episode) for episode in episodes])
    q, v, returns, td_errors = (np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True))
    return ValuedTurns(
        q=q,
        v=v,
        returns=returns,
        td_errors=td_errors,
        game=np.repeat(np.arange(len(episodes)), lengths),
        turn=np.concatenate([np.arange(1, length + 1) for length in lengths]),
    )


def _valued(values: Values, episodes: Sequence[Episode], discount: float) -> tuple[np.ndarray, ...]:
    """Q of both heads [N, 2], the lesser V [N], returns [N] and TD errors [N]."""
    lengths = tuple(len(episode) for episode in episodes)
    rewards = torch.from_numpy(np.concatenate([episode.rewards for episode in episodes])).to(values.v)
    v_next = values.v_next(lengths).amin(dim=-1, keepdim=True)
    terminated = [episode.terminated for episode in episodes]
    returns, targets = (
        lambda_returns(rewards, v_next, terminated, lengths, discount=discount, trace=trace)[:, 0]
        for trace in (1.0, 0.0)
    )
    found = (values.q, values.v.amin(dim=-1), returns, targets - values.q.amin(dim=-1))
    return tuple(tensor.float().cpu().numpy() for tensor in found)
