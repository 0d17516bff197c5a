"""Groups of steps at equal states: GiGPO (Feng et al. 2025, arXiv 2505.10978).

    A(i, t) = A_group(i) + ω A_step(i, t)
    A_step  = (G_{i,t} - mean G) / std G       over all turns of the games of i's seed that were at the same state

A_group is GRPO's, G the discounted return from the turn on, ω = 1. States are equal where the agent had been told
exactly the same. Games of one seed all begin so, and part where different things are said; a state that was met once
adds nothing, and a game that failed is no part of any group.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.algorithms.credit.shares import Shares, over_tokens, relative, relative_to_group
from archer.config import CriticConfig
from archer.models.critic import Critic
from archer.types import Episode

WEIGHT = 1.0
"""ω of the paper's experiments."""


def credit(episodes: Sequence[Episode], critic: Critic | None, config: CriticConfig) -> list[Shares]:
    """The game's advantage in its group plus that of each turn among those at its state."""
    places: dict[tuple[int, bytes], list[tuple[int, int]]] = {}
    for index, episode in enumerate(episodes):
        for number, turn in enumerate(() if episode.failed else episode.turns):
            places.setdefault((episode.seed, turn.prompt_ids.tobytes()), []).append((index, number))
    returns = [_to_go(episode, config.discount) for episode in episodes]
    advantages = [[whole] * len(episode) for whole, episode in zip(relative_to_group(episodes), episodes, strict=True)]
    for at_state in places.values():
        of_step = relative([returns[index][number] for index, number in at_state])
        for (index, number), value in zip(at_state, of_step, strict=True):
            advantages[index][number] += WEIGHT * float(value)
    return [over_tokens(turns, episode) for turns, episode in zip(advantages, episodes, strict=True)]


def _to_go(episode: Episode, discount: float) -> list[float]:
    """Discounted return from every turn on."""
    found: list[float] = []
    following = 0.0
    for turn in reversed(episode.turns):
        following = turn.reward + discount * following
        found.append(following)
    return found[::-1]
