"""Supervised start: clone demonstrations, stop token included (behaviour cloning, ArCHer section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from archer.config import SupervisedConfig
from archer.losses import cloning_loss
from archer.models.actor import Actor
from archer.models.agent import make_optimizer
from archer.models.batch import collate
from archer.optimize import warmup_decay
from archer.rollout.demonstrations import batches
from archer.types import Episode


def clone(
    actor: Actor,
    demonstrations: Sequence[Episode],
    config: SupervisedConfig,
    *,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> float:
    """Train the actor to say what the demonstrator said; the mean loss of the last epoch, in nats per token.

    ``report`` hears the metrics of every step.
    """
    generator = np.random.default_rng(list(seed))
    optimizer = make_optimizer(actor, config)
    losses: list[float] = []
    for episodes, step, steps in batches(demonstrations, config, generator):
        batch = collate(episodes).to(actor.device)
        hidden = actor.hidden(batch)
        loss, metrics = cloning_loss(actor.utterance_logprobs(hidden, batch, batch.utterance_tokens()))
        if config.answer_weight:
            loss = loss + config.answer_weight * cloning_loss(actor.answer_logprobs(hidden, batch))[0]
        optimizer.scale_lr(warmup_decay(step, steps))
        optimizer.step([(loss, 1.0)])
        losses.append(metrics["loss"])
        report({"supervised/loss": metrics["loss"]})
    return float(np.mean(losses[-(len(losses) // config.epochs) :]))
