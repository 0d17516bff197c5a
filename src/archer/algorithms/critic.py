"""Updates of the critic: batches from replay, targets from the high level that was chosen, one pass per batch.

A batch is whole games, because one pass of the causal critic values all turns of a game. Where the high level wants
ã ~ π, it is drawn for all batches of an iteration in one go, which changes nothing, since the actor does not move in
between. Not in the paper: with ``answer_weight`` > 0 the critic also learns to predict the environment's answers
(auxiliary loss); where there are demonstrations, it can begin with their returns (``start_critic``) and keep a share of
them in its batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from archer.algorithms.high import HIGH_LEVELS, HighLevel
from archer.algorithms.high.targets import Targets
from archer.config import CriticConfig, CriticStartConfig
from archer.losses import cloning_loss, critic_loss
from archer.models.agent import Agent, make_optimizer
from archer.models.batch import Siblings, collate
from archer.models.critic import Values
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
    """Fit the critic to the returns of demonstrations (Monte Carlo), so that the first games meet no blank one.

    Its values are then the demonstrator's; the updates that follow make them the agent's. ``report`` hears the metrics
    of every step.
    """
    high = HIGH_LEVELS["tokens" if HIGH_LEVELS[config.method].by_token else "mc"]
    whole = dataclasses.replace(config, trace=1.0)
    optimizer = make_optimizer(agent.learned_critic, start)
    generator = np.random.default_rng(list(seed))
    for episodes, step, steps in batches(demonstrations, start, generator):
        optimizer.scale_lr(warmup_decay(step, steps))
        metrics = _step(agent, optimizer, high, episodes, whole)
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
    assert agent.critic_optimizer is not None
    high = HIGH_LEVELS[config.method]
    generator = np.random.default_rng(list(seed))
    shown = round(config.demonstrations * config.batch_turns) if demonstrations else 0
    played = config.batch_turns - shown
    drawn = [replay.sample(played, generator) if played else [] for _ in range(config.updates)]
    if demonstrations:
        for batch in drawn:
            batch += demonstrations.sample(shown, generator)
    said = _resample(sampler, drawn, seed) if high.resamples else {}
    metrics = [
        _step(agent, agent.critic_optimizer, high, batch, config, [said[id(e)] for e in batch] if said else None)
        for batch in drawn
    ]
    return {f"critic/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def _resample(sampler: SiblingSampler, drawn: Sequence[Sequence[Episode]], seed: Sequence[int]) -> dict[int, Siblings]:
    """One ã ~ π at every state of every drawn episode, by the episode's identity."""
    states = {id(episode): episode for batch in drawn for episode in batch}
    siblings = sampler.sample(list(states.values()), 1, seed)
    return dict(zip(states, siblings, strict=True))


def _step(
    agent: Agent,
    optimizer: Optimizer,
    high: HighLevel,
    episodes: Sequence[Episode],
    config: CriticConfig,
    siblings: Sequence[Siblings] | None = None,
) -> dict[str, float]:
    """One gradient step towards the targets of a batch and one of the target critic towards the critic."""
    critic = agent.learned_critic
    assert agent.target_critic is not None
    device = agent.actor.device
    batch = collate(episodes).to(device)
    told = batch if siblings is None else collate(episodes, siblings).to(device)  # only targets ask what siblings get
    with torch.no_grad():
        targets = high.targets(agent.target_critic(told, tokens=high.by_token), episodes, config)
    values = critic(batch, answers=bool(config.answer_weight), tokens=high.by_token)
    loss, metrics = _value_loss(values, targets)
    loss = loss / critic.unit**2  # in the heads' own units: neither clip nor answers' weight depends on rewards' size
    if values.answers.numel():
        answer_loss, answer_metrics = cloning_loss(values.answers)
        loss = loss + config.answer_weight * answer_loss
        metrics["answer_loss"] = answer_metrics["loss"]
    metrics["grad_norm"] = optimizer.step([(loss, 1.0)])
    polyak_update(agent.target_critic, critic, config.polyak)
    return metrics


def _value_loss(values: Values, targets: Targets) -> tuple[Tensor, dict[str, float]]:
    """Squared errors of whatever has targets, and how far the twins are apart."""
    loss = values.v.new_zeros(())
    metrics: dict[str, float] = {}
    for name, found, wanted, expectile in (
        ("q", values.q, targets.q, 0.5),
        ("v", values.v, targets.v, targets.expectile),
        ("token_v", values.v_tokens, targets.tokens, 0.5),
    ):
        if wanted is not None:
            part, of_part = critic_loss(found, wanted, expectile)
            loss = loss + part
            metrics |= {f"{name}_loss": of_part["loss"], f"{name}_mean": of_part["mean"]}
    twins = values.v if targets.q is None else values.q
    return loss, metrics | {"twin_gap": float((twins[:, 0] - twins[:, 1]).detach().abs().mean())}
