"""Everything that learns: actor, critic, target critic and their optimizers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from archer.config import OptimizerConfig
from archer.devices.sharding import take_over
from archer.models.actor import Actor
from archer.models.critic import Critic
from archer.models.token_baseline import TokenBaseline
from archer.optimize import Optimizer


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimizer that a network's settings describe."""
    return Optimizer(
        module, lr=config.lr, matrix_lr=config.matrix_lr, clip=config.clip, weight_decay=config.weight_decay,
        states=config.states,
    )  # fmt: skip


@dataclass
class Agent:
    """The networks of one run with the state of their optimizers."""

    actor: Actor
    actor_optimizer: Optimizer
    critic: Critic | None = None
    """With its target and optimizer; None where the method has no critic."""
    target_critic: Critic | None = None
    critic_optimizer: Optimizer | None = None
    baseline: TokenBaseline | None = None
    """With its optimizer; None where the low level learns no values inside utterances."""
    baseline_optimizer: Optimizer | None = None
    policy_version: int = 0
    """Actor updates so far."""
    mean: Actor | None = None
    """The running mean of the actor's weights, where that is what plays; None where the actor itself does."""
    behavior: Actor | None = None
    """The policy that plays while the actor is updated; None where the actor itself plays, in between."""
    behavior_version: int = 0
    """Actor updates that the behavior policy has seen."""

    @property
    def policy(self) -> Actor:
        """What plays, is measured and is kept as the run's agent."""
        return self.actor if self.mean is None else self.mean

    def begin_anew(self) -> None:
        """Let the policy and the behavior policy take over the actor's weights as they are."""
        if self.mean is not None:
            take_over(self.mean, self.actor)
        if self.behavior is not None:
            self.follow()

    def follow(self) -> None:
        """Let the behavior policy take over the policy's weights."""
        assert self.behavior is not None, "only where one plays ahead"
        take_over(self.behavior, self.policy)
        self.behavior_version = self.policy_version

    def release_gradients(self) -> None:
        """Forget all gradients: while one network learns or plays, those of the others are in the way."""
        for optimizer in (self.actor_optimizer, self.critic_optimizer, self.baseline_optimizer):
            if optimizer is not None:
                optimizer.clear()

    @property
    def learned_critic(self) -> Critic:
        """The critic, for whoever cannot do without."""
        if self.critic is None:
            raise ValueError("this method has no critic (critic.method is 'none')")
        return self.critic
