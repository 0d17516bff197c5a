"""Learning from demonstrations: clone them, stop token included (behaviour cloning, ArCHer section 5), and once there
is a critic, clone what it finds good the more (advantage-weighted regression, Peng et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from archer import devices
from archer.algorithms.low.spoken import played_advantage
from archer.config import ActorConfig, ActorStartConfig, CloningConfig
from archer.losses import advantage_weights, cloning_loss
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.batch import collate
from archer.models.critic import values_in_parts
from archer.optimize import split, warmup_decay
from archer.rollout.demonstrations import batches
from archer.types import Episode


def clone(
    actor: Actor,
    demonstrations: Sequence[Episode],
    config: CloningConfig,
    *,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> float:
    """Train the actor to say what the demonstrator said; the mean loss of the last epoch, in nats per token.

    ``report`` hears the metrics of every step.
    """
    alike = [np.ones(len(episode), np.float32) for episode in demonstrations]
    return _clone(actor, demonstrations, alike, config, "supervised", seed=seed, report=report)


def start_actor(
    agent: Agent,
    demonstrations: Sequence[Episode],
    start: ActorStartConfig,
    config: ActorConfig,
    *,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> None:
    """Clone the demonstrations once more, each utterance with the weight exp(β A / u) of ``low/awr.py``.

    The first step of policy improvement, before the first game: the demonstrator's best instead of its average.
    """
    critic = agent.learned_critic
    weights = [
        advantage_weights(played_advantage(own) / critic.unit, config.beta, config.weight_cap).cpu().numpy()
        for part, values in values_in_parts(critic, demonstrations)
        for own in values.apart(part)
    ]
    _clone(agent.actor, demonstrations, weights, start, "actor_start", seed=seed, report=report)


def _clone(
    actor: Actor,
    demonstrations: Sequence[Episode],
    weights: Sequence[npt.NDArray[np.float32]],
    config: CloningConfig,
    stage: str,
    *,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> float:
    """Weighted cloning; ``weights`` has one of every turn of every demonstration."""
    generator = np.random.default_rng(list(seed))
    optimizer = make_optimizer(actor, config)
    place = {id(episode): index for index, episode in enumerate(demonstrations)}
    losses: list[float] = []
    for episodes, step, steps in batches(demonstrations, config, generator):
        [(part, counts)] = devices.own_parts(split(len(episodes), devices.count()))
        own = episodes[part]
        batch = collate(own).to(actor.device)
        hidden = actor.hidden(batch)
        tokens = batch.utterance_tokens()
        logprobs = actor.utterance_logprobs(hidden, batch, tokens)
        answers = actor.answer_logprobs(hidden, batch) if config.answer_weight else logprobs[:0]
        by_turn = np.concatenate([weights[place[id(episode)]] for episode in own])
        weight = torch.from_numpy(by_turn).to(logprobs)[tokens.utterance]
        sizes = [float(weight.sum()), float(len(answers))] if counts else [0.0, 0.0]
        shares = [size / (whole or 1.0) for size, whole in zip(sizes, devices.summed(sizes), strict=True)]
        loss, metrics = cloning_loss(logprobs, weight)
        loss = shares[0] * loss
        if len(answers):
            loss = loss + config.answer_weight * shares[1] * cloning_loss(answers)[0]
        optimizer.scale_lr(warmup_decay(step, steps))
        optimizer.step([(loss, 1.0)])
        losses.append(devices.summed([shares[0] * metrics["loss"]])[0])
        report({f"{stage}/loss": losses[-1]})
    optimizer.clear()
    return float(np.mean(losses[-(len(losses) // config.epochs) :]))
