"""Updates of the critic: batches from replay, targets from the high level that was chosen, one pass per batch.

A batch is whole games, because one pass of the causal critic values all turns of a game. Where the high level wants
ã ~ π, it is drawn for all batches of an iteration in one go, which changes nothing, since the actor does not move in
between. Not in the paper: with ``answer_weight`` > 0 the critic also learns to predict the environment's answers
(auxiliary loss); where there are demonstrations, it can begin with their returns (``start_critic``) and keep a share of
them in its batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from archer.algorithms.high import HIGH_LEVELS, mc
from archer.algorithms.high.targets import Targets
from archer.config import CriticConfig, CriticStartConfig
from archer.losses import cloning_loss, critic_loss
from archer.models.agent import Agent, make_optimizer
from archer.models.batch import EpisodeBatch, Siblings, collate
from archer.optimize import Optimizer, polyak_update, warmup_decay
from archer.replay import Replay
from archer.rollout.demonstrations import batches
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode


def start_critic(
    agent: Agent,
    demonstrations: Sequence[Episode],
    start: CriticStartConfig,
    config: CriticConfig,
    *,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> None:
    """Fit Q and V to the returns of demonstrations (Monte Carlo), so that the first games meet no blank critic.

    Q and V are then the demonstrator's; the updates that follow make them the agent's. ``report`` hears the metrics of
    every step.
    """
    optimizer = make_optimizer(agent.critic, start)
    generator = np.random.default_rng(list(seed))
    for episodes, step, steps in batches(demonstrations, start, generator):
        batch = collate(episodes).to(agent.actor.device)
        with torch.no_grad():
            targets = mc.targets(agent.target_critic(batch), episodes, config)
        optimizer.scale_lr(warmup_decay(step, steps))
        metrics = _learn(agent, optimizer, batch, targets, config)
        report({f"critic_start/{key}": value for key, value in metrics.items()})


def update_critic(
    agent: Agent,
    replay: Replay,
    config: CriticConfig,
    *,
    sampler: SiblingSampler,
    seed: Sequence[int],
    demonstrations: Replay | None = None,
) -> dict[str, float]:
    """``config.updates`` gradient steps on batches from all of replay; metrics averaged over them.

    With ``demonstrations``, ``config.demonstrations`` of every batch's turns are theirs.
    """
    generator = np.random.default_rng(list(seed))
    shown = round(config.demonstrations * config.batch_turns) if demonstrations else 0
    drawn = [replay.sample(config.batch_turns - shown, generator) for _ in range(config.updates)]
    if demonstrations:
        for batch in drawn:
            batch += demonstrations.sample(shown, generator)
    if HIGH_LEVELS[config.method].resamples:
        said = _resample(sampler, drawn, seed)
        metrics = [_step(agent, batch, config, [said[id(episode)] for episode in batch]) for batch in drawn]
    else:
        metrics = [_step(agent, batch, config) for batch in drawn]
    return {f"critic/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def _resample(sampler: SiblingSampler, drawn: Sequence[Sequence[Episode]], seed: Sequence[int]) -> dict[int, Siblings]:
    """One ã ~ π at every state of every drawn episode, by the episode's identity."""
    states = {id(episode): episode for batch in drawn for episode in batch}
    siblings = sampler.sample(list(states.values()), 1, seed)
    return dict(zip(states, siblings, strict=True))


def _step(
    agent: Agent, episodes: Sequence[Episode], config: CriticConfig, siblings: Sequence[Siblings] | None = None
) -> dict[str, float]:
    batch = collate(episodes, siblings).to(agent.actor.device)
    with torch.no_grad():
        targets = HIGH_LEVELS[config.method].targets(agent.target_critic(batch), episodes, config)
    return _learn(agent, agent.critic_optimizer, batch, targets, config)


def _learn(
    agent: Agent, optimizer: Optimizer, batch: EpisodeBatch, targets: Targets, config: CriticConfig
) -> dict[str, float]:
    """One gradient step towards the targets and one of the target critic towards the critic."""
    values = agent.critic(batch, answers=bool(config.answer_weight))
    q_loss, q_metrics = critic_loss(values.q, targets.q)
    v_loss, v_metrics = critic_loss(values.v, targets.v, targets.expectile)
    # In the heads' own units, so that neither the clip nor the answers' weight depends on the size of rewards.
    loss = (q_loss + v_loss) / agent.critic.unit**2
    metrics: dict[str, float] = {}
    if values.answers.numel():
        answer_loss, answer_metrics = cloning_loss(values.answers)
        loss = loss + config.answer_weight * answer_loss
        metrics["answer_loss"] = answer_metrics["loss"]
    norm = optimizer.step([(loss, 1.0)])
    polyak_update(agent.target_critic, agent.critic, config.polyak)
    return metrics | {
        "q_loss": q_metrics["loss"],
        "v_loss": v_metrics["loss"],
        "q_mean": q_metrics["mean"],
        "v_mean": v_metrics["mean"],
        "twin_gap": float((values.q[:, 0] - values.q[:, 1]).detach().abs().mean()),
        "grad_norm": norm,
    }
