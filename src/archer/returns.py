"""Targets of the high level: what a turn is worth, from its rewards and the values behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def lambda_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminated: Sequence[bool],
    lengths: Sequence[int],
    *,
    discount: float | Tensor,
    trace: float,
) -> Tensor:
    """λ-returns of every turn of B episodes laid end to end (Sutton & Barto 2018, eq. 12.20).

        G_t = r_t + γ [(1 - λ) V(s_{t+1}) + λ G_{t+1}],   G behind the last turn = V(final state)

    λ = 0 is one-step TD, as ArCHer has it; λ = 1 is Monte Carlo. A terminated episode is worth nothing after its
    last turn; a truncated one keeps V of its final state, because it was us who stopped it. Steps may be tokens as well
    as turns: ``discount`` is then a vector [N], 1 inside an utterance.

    Shapes: rewards [N]; next_values [N, H], the value of the state after each turn; terminated and lengths [B],
    the lengths adding up to N. Returns [N, H].
    """
    turns, ends, bootstrap = _bootstrap(next_values, terminated, lengths)
    gamma = torch.as_tensor(discount, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)[:, None]
    one_step = rewards[:, None] + gamma * bootstrap
    if trace == 0.0:
        return one_step
    returns = one_step.clone()
    following = bootstrap[ends]
    for back in range(max(lengths)):  # all episodes at once, from their last turns to their first
        longer = turns > back
        at = ends[longer] - back
        following[longer] = rewards[at, None] + gamma[at] * ((1 - trace) * bootstrap[at] + trace * following[longer])
        returns[at] = following[longer]
    return returns


def _bootstrap(
    next_values: Tensor, terminated: Sequence[bool], lengths: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns of each episode and the place of its last one, [B] both; the value behind every turn, [N, H], which is 0
    where the task has ended."""
    turns = torch.tensor(lengths, device=next_values.device)
    ends = turns.cumsum(0) - 1
    alive = torch.ones_like(next_values[:, :1])
    alive[ends, 0] = 1.0 - torch.tensor(terminated, dtype=alive.dtype, device=alive.device)
    return turns, ends, next_values * alive


def retrace_returns(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    traces: Tensor,
    terminated: Sequence[bool],
    lengths: Sequence[int],
    *,
    discount: float,
) -> Tensor:
    """Retrace targets of every turn of B episodes laid end to end (Munos et al. 2016, arXiv 1606.02647, eq. 3-4).

        G_t = r_t + γ [V(s_{t+1}) + c_{t+1} (G_{t+1} - Q(s_{t+1}, a_{t+1}))],   G behind the last turn = V(final state)

    With c = λ min(1, π/μ) they lead to Q of π whoever played: where the policy would say what was said, the game tells
    how it went on; where it no longer would, V does. c = 0 is one-step TD. A truncated episode keeps V of its final
    state, as in ``lambda_returns``.

    Shapes: rewards, traces (c) [N]; values, Q of each turn, and next_values, V of the state after it, [N, H];
    terminated and lengths [B], the lengths adding up to N. Returns [N, H].
    """
    turns, ends, bootstrap = _bootstrap(next_values, terminated, lengths)
    returns = rewards[:, None] + discount * bootstrap
    for back in range(1, max(lengths)):  # all episodes at once, from their last turns to their first
        at = ends[turns > back] - back
        returns[at] += discount * traces[at + 1, None] * (returns[at + 1] - values[at + 1])
    return returns
