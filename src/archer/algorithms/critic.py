"""Updates of the critic: batches from replay, targets from the high level that was chosen, one pass per batch.

A batch is whole games, because one pass of the causal critic values all turns of a game. Where the high level wants
ã ~ π, it is drawn for all batches of an iteration in one go, which changes nothing, since the actor does not move in
between. Not in the paper: with ``answer_weight`` > 0 the critic also learns to predict the environment's answers
(auxiliary loss); where there are demonstrations, it can begin with their returns (``start_critic``) and keep a share of
them in its batches.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from archer import devices
from archer.algorithms.high import HIGH_LEVELS, HighLevel
from archer.algorithms.high.targets import Targets
from archer.algorithms.target_values import FreshValues, KeptValues, TargetValues
from archer.config import CriticConfig, CriticStartConfig
from archer.losses import cloning_loss, critic_loss
from archer.models.agent import Agent, make_optimizer
from archer.models.batch import EpisodeBatch, collate
from archer.models.critic import Values
from archer.optimize import Optimizer, polyak_update, split, warmup_decay
from archer.replay import Replay
from archer.rollout.demonstrations import batches
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode

TERMS = ("turns", "tokens", "answers")
"""What the terms of the loss are means of."""


def start_critic(
    agent: Agent,
    demonstrations: Sequence[Episode],
    start: CriticStartConfig,
    config: CriticConfig,
    *,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> None:
    """Teach the critic by demonstrations what can be made of a state, so that the first games meet no blank one.

    Implicit Q-learning with short traces: what one utterance changes is small beside how differently games end, which
    is all that whole returns tell. Values of tokens, whose λ is per token, are fitted to the returns. The updates that
    follow make all of them the agent's. ``report`` hears the metrics of every step.
    """
    if HIGH_LEVELS[config.method].by_token:
        high, config = HIGH_LEVELS["tokens"], dataclasses.replace(config, trace=1.0)
    else:
        high = HIGH_LEVELS["iql"]
        config = dataclasses.replace(config, trace=start.trace, expectile=start.expectile)
    optimizer = make_optimizer(agent.learned_critic, start)
    generator = np.random.default_rng(list(seed))
    for episodes, step, steps in batches(demonstrations, start, generator):
        optimizer.scale_lr(warmup_decay(step, steps))
        metrics = _step(agent, optimizer, high, episodes, config, FreshValues(agent, high))
        report({f"critic_start/{key}": value for key, value in metrics.items()})
    optimizer.clear()


def follow_actor(
    agent: Agent,
    demonstrations: Sequence[Episode],
    rounds: int,
    config: CriticConfig,
    *,
    sampler: SiblingSampler,
    seed: Sequence[int],
    report: Callable[[dict[str, float]], None],
) -> None:
    """Bring the critic up to an actor that has moved on while it stood still, by ``rounds`` of ``update_critic`` on
    demonstrations alone; ``report`` hears the metrics of each.

    Else the first games would be judged by what their states were worth to somebody else: all that is said looks
    better than expected, and is cloned.
    """
    shown = Replay(sum(len(episode) for episode in demonstrations))
    shown.add(demonstrations)
    alone = dataclasses.replace(config, demonstrations=0.0)  # nothing beside them
    for number in range(rounds):
        report(update_critic(agent, shown, alone, sampler=sampler, seed=[*seed, number]))


def update_critic(
    agent: Agent,
    replay: Replay,
    config: CriticConfig,
    *,
    sampler: SiblingSampler,
    seed: Sequence[int],
    demonstrations: Replay | None = None,
    kept: KeptValues | None = None,
) -> dict[str, float]:
    """``config.updates`` gradient steps on batches from all of replay; metrics averaged over them.

    With ``demonstrations``, ``config.demonstrations`` of every batch's turns are theirs. With ``kept``, targets are
    made of what it keeps.
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
    if kept is not None:
        kept.prepare(agent, high, sampler, drawn, seed)
    told = kept or FreshValues(agent, high, sampler, drawn, seed)
    metrics = [_step(agent, agent.critic_optimizer, high, batch, config, told) for batch in drawn]
    return {f"critic/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def _step(
    agent: Agent,
    optimizer: Optimizer,
    high: HighLevel,
    episodes: Sequence[Episode],
    config: CriticConfig,
    told: TargetValues,
) -> dict[str, float]:
    """One gradient step towards the targets of a batch and one of the target critic towards the critic."""
    assert agent.target_critic is not None
    metrics: defaultdict[str, float] = defaultdict(float)
    norm = optimizer.step(_losses(agent, high, episodes, config, told, metrics))
    polyak_update(agent.target_critic, agent.learned_critic, config.polyak)
    return {**devices.merged(metrics), "grad_norm": norm}


def _losses(
    agent: Agent,
    high: HighLevel,
    episodes: Sequence[Episode],
    config: CriticConfig,
    told: TargetValues,
    metrics: defaultdict[str, float],
) -> Iterator[tuple[Tensor, float]]:
    """The loss of each of this process' parts of the batch; each term has its part's share of all that it is the mean
    of. ``metrics`` gather their means."""
    critic, device = agent.learned_critic, agent.actor.device
    parts = devices.own_parts(split(len(episodes), devices.enough_for_all(config.accumulation)))
    batches = [collate(episodes[part]) for part, _ in parts]
    answers = bool(config.answer_weight)
    sizes = [_sizes(batch, answers) if counts else Counter() for batch, (_, counts) in zip(batches, parts, strict=True)]
    whole = dict(zip(TERMS, devices.summed([sum(size[term] for size in sizes) for term in TERMS]), strict=True))
    for (part, _), batch, size in zip(parts, batches, sizes, strict=True):
        share = {term: size[term] / max(1, whole[term]) for term in TERMS}
        batch = batch.to(device)
        with torch.no_grad():
            targets = high.targets(told(batch), episodes[part], config)
        values = critic(batch, answers=bool(config.answer_weight), tokens=high.by_token)
        loss = _value_loss(values, targets, share, metrics)
        loss = loss / critic.unit**2  # in the heads' units: neither clip nor answers' weight depends on rewards' size
        if values.answers.numel():
            answer_loss, of_answers = cloning_loss(values.answers)
            loss = loss + config.answer_weight * share["answers"] * answer_loss
            metrics["answer_loss"] += share["answers"] * of_answers["loss"]
        yield loss, 1.0


def _sizes(batch: EpisodeBatch, answers: bool) -> Counter[str]:
    """How much of everything a batch has that something is the mean of."""
    return Counter(
        turns=len(batch.row),
        tokens=sum(episode.tokens_said for episode in batch.episodes),
        answers=len(batch.observation_tokens().row) if answers else 0,
    )


def _value_loss(
    values: Values, targets: Targets, share: Mapping[str, float], metrics: defaultdict[str, float]
) -> Tensor:
    """Squared errors of whatever has targets; ``metrics`` also hear how far the twins are apart."""
    loss = values.v.new_zeros(())
    for name, found, wanted, expectile, share_of in (
        ("q", values.q, targets.q, 0.5, share["turns"]),
        ("v", values.v, targets.v, targets.expectile, share["turns"]),
        ("token_v", values.v_tokens, targets.tokens, 0.5, share["tokens"]),
    ):
        if wanted is not None:
            part, of_part = critic_loss(found, wanted, expectile)
            loss = loss + share_of * part
            metrics[f"{name}_loss"] += share_of * of_part["loss"]
            metrics[f"{name}_mean"] += share_of * of_part["mean"]
    twins = values.v if targets.q is None else values.q
    metrics["twin_gap"] += share["turns"] * float((twins[:, 0] - twins[:, 1]).detach().abs().mean())
    return loss
