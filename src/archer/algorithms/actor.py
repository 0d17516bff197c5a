"""Updates of the actor: utterances, what they were worth, the loss of the low level that was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from archer import devices
from archer.algorithms.credit import Credit
from archer.algorithms.low import LOW_LEVELS, TRUSTING
from archer.algorithms.low.spoken import ADVANTAGES, Spoken, engine_trust, played_advantage
from archer.config import ActorConfig
from archer.losses import kl_penalty
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch, TokenIndex, collate
from archer.models.packing import Siblings
from archer.optimize import descend, polyak_update, split
from archer.replay import Replay, draw
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode

Found = list[tuple[dict[str, float], float]]
"""Metrics of each part of a batch, with its share of the turns."""


def update_actor(
    agent: Agent,
    reference: Actor | None,
    replay: Replay,
    config: ActorConfig,
    *,
    sampler: SiblingSampler,
    seed: Sequence[int],
    credit: Credit | None = None,
    demonstrations: Replay | None = None,
) -> dict[str, float]:
    """``config.updates`` batches of stored states and ``config.epochs`` gradient steps on each; mean metrics.

    Utterances are sampled where the low level learns from fresh ones, or where a ``reference`` is to be kept near to
    and the stored ones are not the policy's own: for each batch afresh, from the policy as it then is. ``credit`` is
    what played utterances were worth, where the critic alone does not say it. With ``demonstrations``,
    ``config.demonstrations`` of every batch's turns are theirs.
    """
    generator = np.random.default_rng(list(seed))
    metrics: list[dict[str, float]] = []
    for update in range(config.updates):
        episodes = _draw(replay, demonstrations, config, generator)
        siblings: Sequence[Siblings] | None = None
        if config.utterances == "fresh" or (reference is not None and credit is None):
            siblings = sampler.sample(episodes, config.siblings, [*seed, update])
        for _ in range(config.epochs):
            found: Found = []
            optimizers = [optimizer for optimizer in (agent.actor_optimizer, agent.baseline_optimizer) if optimizer]
            norm = descend(optimizers, _losses(agent, reference, episodes, siblings, credit, config, found))[0]
            agent.policy_version += 1
            if agent.mean is not None:
                polyak_update(agent.mean, agent.actor, config.average_rate)
            means = {key: sum(part[key] * weight for part, weight in found) for key in found[0][0]}
            merged = dict(devices.merged(means))
            if "advantage_square" in merged:  # of all parts together, where each has its own mean
                variance = merged.pop("advantage_square") - merged["advantage_mean"] ** 2
                merged["advantage_std"] = max(0.0, variance) ** 0.5
            metrics.append({**merged, "grad_norm": norm})
    return {f"actor/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def _draw(
    replay: Replay, demonstrations: Replay | None, config: ActorConfig, generator: np.random.Generator
) -> list[Episode]:
    """One batch of games: replay's, and the demonstrations' share."""
    shown = round(config.demonstrations * config.batch_turns) if demonstrations else 0
    drawn: list[Episode] = []
    for games, turns in ((replay, config.batch_turns - shown), (demonstrations, shown)):
        if games is None or not turns:
            continue
        if config.utterances == "best":
            drawn += draw(games.best(config.best), turns, generator)
        else:
            drawn += games.sample(turns, generator, config.newest_turns if games is replay else None)
    return drawn


def _losses(
    agent: Agent,
    reference: Actor | None,
    episodes: Sequence[Episode],
    siblings: Sequence[Siblings] | None,
    credit: Credit | None,
    config: ActorConfig,
    found: Found,
) -> Iterator[tuple[Tensor, float]]:
    """The loss of each of this process' parts of the batch with its share of the turns; metrics and shares are appended
    to ``found``."""
    turns = sum(len(episode) for episode in episodes)
    said = sum(episode.tokens_said for episode in episodes)
    if config.utterances == "fresh" and siblings is not None:
        said = sum(len(utterance.ids) for one in siblings for group in one for utterance in group)
    weighed = config.method in TRUSTING and config.utterances == "played"
    elsewhere = weighed and any(len(episode.engine_gap) for episode in episodes)
    for part, counts in devices.own_parts(split(len(episodes), devices.enough_for_all(config.accumulation))):
        batch = collate(episodes[part], siblings[part] if siblings is not None else None).to(agent.actor.device)
        hidden = agent.actor.hidden(batch)
        tokens = batch.sibling_tokens() if config.utterances == "fresh" else batch.utterance_tokens()
        spoken = _spoken(agent, hidden, batch, tokens, credit, config)
        loss, metrics = LOW_LEVELS[config.method](spoken, config)
        extra = dict(metrics)
        if config.advantage != "none":
            extra["advantage_mean"] = float(spoken.advantage.mean())
            extra["advantage_square"] = float(spoken.advantage.pow(2).mean())
        if elsewhere:
            extra["engine_capped"] = float((spoken.trust >= config.ratio_cap).float().mean())
        if agent.baseline is not None:
            # By turns all parts are weighed; the mean of errors is one of tokens.
            by_token = len(spoken.advantage) / said * turns / len(batch.row)
            error = by_token * (spoken.baseline - spoken.advantage).pow(2).mean()
            extra["baseline_loss"] = float(error.detach())
            loss = loss + error / agent.baseline.unit**2  # the actor's own part of the loss takes it for a constant
        if reference is not None:
            own = spoken.logprobs
            if config.utterances != "fresh" and siblings is not None:  # what was played may be of old policies
                tokens = batch.sibling_tokens()
                own = agent.actor.utterance_logprobs(hidden, batch, tokens)
            with torch.no_grad():
                anchor = reference.logprobs(batch, tokens)
            penalty, extra["kl"] = kl_penalty(own, anchor, int(tokens.utterance[-1]) + 1)
            loss = loss + config.kl * penalty
        weight = len(batch.row) / turns if counts else 0.0
        found.append((extra, weight))
        yield loss, weight


def _spoken(
    agent: Agent, hidden: Tensor, batch: EpisodeBatch, tokens: TokenIndex, credit: Credit | None, config: ActorConfig
) -> Spoken:
    """The utterances that the low level learns from, with what they were worth."""
    if config.utterances == "fresh":
        utterances = [utterance for group in batch.siblings for utterance in group]
    else:
        utterances = [turn.utterance for episode in batch.episodes for turn in episode.turns]
    logprobs = agent.actor.utterance_logprobs(hidden, batch, tokens)
    return Spoken(
        logprobs=logprobs,
        sampled=torch.from_numpy(np.concatenate([u.logprobs for u in utterances])).to(hidden.device),
        trust=engine_trust(utterances, config.ratio_cap).to(hidden.device),
        advantage=_advantage(agent, batch, tokens, credit, config),
        baseline=torch.zeros_like(logprobs) if agent.baseline is None else agent.baseline(batch, tokens),
        utterances=len(utterances),
        unit=1.0 if agent.critic is None or credit is not None else agent.critic.unit,
    )


@torch.no_grad()
def _advantage(
    agent: Agent, batch: EpisodeBatch, tokens: TokenIndex, credit: Credit | None, config: ActorConfig
) -> Tensor:
    """What each token is worth more than expected, [T]."""
    if credit is not None:
        shares = np.concatenate([credit[id(episode)] for episode in batch.episodes])
        return torch.from_numpy(shares).to(batch.ids.device)
    if config.advantage == "none":
        return torch.ones(len(tokens.row), device=batch.ids.device)
    values = agent.learned_critic(batch)
    fresh = config.utterances == "fresh"
    return (ADVANTAGES[config.advantage](values).reshape(-1) if fresh else played_advantage(values))[tokens.utterance]
