"""The games of an iteration, and players elsewhere who play them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from archer.models.actor import Actor
from archer.models.critic import Critic
from archer.rollout.seat import Faults
from archer.types import Episode


@dataclass(frozen=True)
class Games:
    """The games of one iteration."""

    episodes: list[Episode]
    faults: Faults
    """What failed in their environments."""
    seconds: float
    """How long it took to play them."""
    account: dict[str, float] = field(default_factory=dict)
    """More metrics, of games that were played elsewhere."""

    @property
    def speed(self) -> dict[str, float]:
        """As metrics."""
        tokens = sum(episode.tokens_said for episode in self.episodes)
        return {
            "time/games_per_s": len(self.episodes) / self.seconds,
            "time/tokens_per_s": tokens / self.seconds,
        }


class Company(Protocol):
    """Players on other machines, who have copies of what plays."""

    def gather(self, iteration: int, policy: Actor, critic: Critic | None, policy_version: int) -> Games:
        """The games of ``iteration``; from now on they play with these networks as they are."""

    def player(self, best_of: int, critic: Critic | None) -> Callable[..., list[Episode]]:
        """A function like ``play``, or with ``best_of`` like ``play_best_of``, for which all of them play."""
