"""Everything that learns: actor, critic, target critic and their optimizers."""

from __future__ import annotations

from dataclasses import dataclass

from archer.models.actor import Actor
from archer.models.critic import Critic
from archer.optimize import Optimizer


@dataclass
class Agent:
    """The networks of one run with the state of their optimizers."""

    actor: Actor
    critic: Critic
    target_critic: Critic
    actor_optimizer: Optimizer
    critic_optimizer: Optimizer
    policy_version: int = 0
    """Actor updates so far."""
