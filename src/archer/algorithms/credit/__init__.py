"""Credit: what played utterances were worth by the rewards that followed. A new way is a file and a line here.

Unlike advantages that the critic alone decides (``low/spoken.py``), credit needs the games themselves, and is found
before the critic learns how these went on: a value that has seen the outcome says that nothing was gained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from archer.algorithms.credit import gae, group, steps, token_gae
from archer.algorithms.credit.shares import Shares
from archer.config import CriticConfig
from archer.models.critic import Critic
from archer.replay import Replay
from archer.types import Episode

CREDITS: dict[str, Callable[[Sequence[Episode], Critic | None, CriticConfig], list[Shares]]] = {
    "gae": gae.credit,
    "token_gae": token_gae.credit,
    "group": group.credit,
    "steps": steps.credit,
}
"""Advantage of every token of the played utterances, for each episode."""

Credit = dict[int, Shares]
"""By the identity of the episode."""


def assign_credit(method: str, replay: Replay, critic: Critic | None, config: CriticConfig) -> Credit | None:
    """Credit of all games that replay holds; None where the advantage ``method`` asks the critic alone."""
    if method not in CREDITS:
        return None
    episodes = list(replay)
    found = CREDITS[method](episodes, critic, config)
    assert all(np.isfinite(shares).all() for shares in found)
    return {id(episode): shares for episode, shares in zip(episodes, found, strict=True)}
