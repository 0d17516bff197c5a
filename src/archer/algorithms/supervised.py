"""Supervised start: clone demonstrations, stop token included (behaviour cloning, ArCHer section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from archer.config import SupervisedConfig
from archer.losses import cloning_loss
from archer.models.actor import Actor
from archer.models.agent import make_optimizer
from archer.models.batch import collate
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
    starts = range(0, len(demonstrations), config.batch_games)
    total, losses = config.epochs * len(starts), [0.0]
    step = 0
    for _ in range(config.epochs):
        losses = []
        order = generator.permutation(len(demonstrations))
        for start in starts:
            batch = collate([demonstrations[i] for i in order[start : start + config.batch_games]]).to(actor.device)
            hidden = actor.hidden(batch)
            loss, metrics = cloning_loss(actor.token_logprobs(hidden, batch, batch.utterance_tokens()))
            if config.answer_weight:
                answers = actor.token_logprobs(hidden, batch, batch.observation_tokens())
                loss = loss + config.answer_weight * cloning_loss(answers)[0]
            # Linear warm-up over the first twentieth, then linear decay.
            optimizer.scale_lr(min(1.0, 20 * (step + 1) / total, 1.05 * (1 - step / total)))
            optimizer.step([(loss, 1.0)])
            losses.append(metrics["loss"])
            report({"supervised/loss": metrics["loss"]})
            step += 1
    return float(np.mean(losses))
