"""Updates of the actor: replayed states, advantages from the critic, the loss of the low level that was chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from archer.algorithms.low import LOW_LEVELS
from archer.algorithms.low.spoken import ADVANTAGES, Spoken, played_advantage
from archer.config import ActorConfig
from archer.losses import kl_penalty
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch, Siblings, collate
from archer.models.critic import Values
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode


def update_actor(
    agent: Agent,
    reference: Actor | None,
    replay: Replay,
    config: ActorConfig,
    *,
    sampler: SiblingSampler,
    seed: Sequence[int],
) -> dict[str, float]:
    """``config.updates`` batches of replayed states and ``config.epochs`` gradient steps on each; mean metrics.

    Utterances are sampled where the low level learns from them, or a ``reference`` is to be kept near to: for each
    batch afresh, from the policy as it then is.
    """
    generator = np.random.default_rng(list(seed))
    metrics: list[dict[str, float]] = []
    for update in range(config.updates):
        episodes = replay.sample(config.batch_turns, generator, config.newest_turns)
        siblings: Sequence[Siblings] | None = None
        if LOW_LEVELS[config.method].resamples or reference is not None:
            siblings = sampler.sample(episodes, config.siblings, [*seed, update])
        for _ in range(config.epochs):
            found: list[tuple[dict[str, float], float]] = []
            norm = agent.actor_optimizer.step(_losses(agent, reference, episodes, siblings, config, found))
            agent.policy_version += 1
            metrics.append({key: sum(part[key] * weight for part, weight in found) for key in found[0][0]})
            metrics[-1]["grad_norm"] = norm
    return {f"actor/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def _losses(
    agent: Agent,
    reference: Actor | None,
    episodes: Sequence[Episode],
    siblings: Sequence[Siblings] | None,
    config: ActorConfig,
    found: list[tuple[dict[str, float], float]],
) -> Iterator[tuple[Tensor, float]]:
    """The loss of each part of the batch with its share of the turns; metrics and shares are appended to ``found``."""
    turns = sum(len(episode) for episode in episodes)
    for part in _parts(len(episodes), config.accumulation):
        batch = collate(episodes[part], siblings[part] if siblings is not None else None).to(agent.actor.device)
        with torch.no_grad():
            values = agent.critic(batch)
        hidden = agent.actor.hidden(batch)
        spoken = _spoken(agent.actor, hidden, batch, values, config)
        loss, metrics = LOW_LEVELS[config.method].loss(spoken, config)
        extra = dict(metrics) | {
            "advantage_mean": float(spoken.advantage.mean()),
            "advantage_std": float(spoken.advantage.std()) if len(spoken.advantage) > 1 else 0.0,
        }
        if reference is not None:
            tokens = batch.sibling_tokens()
            with torch.no_grad():
                anchor = reference.logprobs(batch, tokens)
            # The low level's own where it learns from siblings: the same log-probabilities.
            own = LOW_LEVELS[config.method].resamples
            logprobs = spoken.logprobs if own else agent.actor.utterance_logprobs(hidden, batch, tokens)
            penalty, extra["kl"] = kl_penalty(logprobs, anchor, batch.sibling_at.numel())
            loss = loss + config.kl * penalty
        weight = len(batch.row) / turns
        found.append((extra, weight))
        yield loss, weight


def _spoken(actor: Actor, hidden: Tensor, batch: EpisodeBatch, values: Values, config: ActorConfig) -> Spoken:
    """The utterances that the low level learns from: siblings, or those that were played."""
    if LOW_LEVELS[config.method].resamples:
        tokens, advantage = batch.sibling_tokens(), ADVANTAGES[config.advantage](values).reshape(-1)
        utterances = [utterance for group in batch.siblings for utterance in group]
    else:
        tokens, advantage = batch.utterance_tokens(), played_advantage(values)
        utterances = [turn.utterance for episode in batch.episodes for turn in episode.turns]
    return Spoken(
        logprobs=actor.utterance_logprobs(hidden, batch, tokens),
        sampled=torch.from_numpy(np.concatenate([u.logprobs for u in utterances])).to(hidden.device),
        utterance=tokens.utterance,
        advantage=advantage,
    )


def _parts(count: int, pieces: int) -> list[slice]:
    """``count`` items cut into at most ``pieces`` runs of near-equal length."""
    edges = np.linspace(0, count, min(pieces, count) + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
