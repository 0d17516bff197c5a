"""Low level: REINFORCE on utterances resampled at replayed states (ArCHer, arXiv 2402.19446, section 3.4).

    L = - E_{s ~ replay, ã ~ π(s)} [ A(s, ã) Σ_l log π(ã^l | s, ã^{<l}) ]

Every stored state is a bandit whose reward is the critic: no game is played to train the actor. Two advantages:

- ``value``: A = min(Q1, Q2)(s, ã) - min(V1, V2)(s), the paper's;
- ``siblings``: A_k = q_k - mean_{j≠k} q_j over K utterances of one state, q = min(Q1, Q2). The leave-one-out mean is an
  unbiased baseline that needs no V and cancels any offset between the heads of Q and V (Kool et al. 2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from archer.config import ActorConfig
from archer.losses import kl_penalty, reinforce_loss
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.models.batch import Siblings, collate
from archer.models.critic import Values
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode


def value_advantage(values: Values) -> Tensor:
    """min Q(s, ã_k) - min V(s), shape [N, K]."""
    return values.q_siblings.amin(dim=-1) - values.v.amin(dim=-1)[:, None]


def siblings_advantage(values: Values) -> Tensor:
    """min Q(s, ã_k) minus the mean of the other siblings' min Q, shape [N, K]; K must be at least 2."""
    q = values.q_siblings.amin(dim=-1)
    count = q.shape[1]
    return (q - q.mean(dim=1, keepdim=True)) * (count / (count - 1))


ADVANTAGES: dict[str, Callable[[Values], Tensor]] = {"value": value_advantage, "siblings": siblings_advantage}


def update_actor(
    agent: Agent,
    reference: Actor | None,
    replay: Replay,
    config: ActorConfig,
    *,
    sampler: SiblingSampler,
    seed: Sequence[int],
) -> dict[str, float]:
    """``config.updates`` gradient steps, each on fresh utterances of the policy as it then is; mean metrics."""
    generator = np.random.default_rng(list(seed))
    metrics: list[dict[str, float]] = []
    for update in range(config.updates):
        episodes = replay.sample(config.batch_turns, generator, config.newest_turns)
        siblings = sampler.sample(episodes, config.siblings, [*seed, update])
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
    siblings: Sequence[Siblings],
    config: ActorConfig,
    found: list[tuple[dict[str, float], float]],
) -> Iterator[tuple[Tensor, float]]:
    """The loss of each part of the batch with its share of the turns; metrics and shares are appended to ``found``."""
    turns = sum(len(episode) for episode in episodes)
    for part in _parts(len(episodes), config.accumulation):
        batch = collate(episodes[part], siblings[part]).to(agent.actor.device)
        with torch.no_grad():
            advantage = ADVANTAGES[config.advantage](agent.critic(batch)).reshape(-1)
        tokens = batch.sibling_tokens()
        logprobs = agent.actor.logprobs(batch, tokens)
        loss, metrics = reinforce_loss(logprobs, tokens.utterance, advantage)
        extra = dict(metrics)
        if reference is not None:
            with torch.no_grad():
                anchor = reference.logprobs(batch, tokens)
            penalty, extra["kl"] = kl_penalty(logprobs, anchor, len(advantage))
            loss = loss + config.kl * penalty
        weight = len(batch.row) / turns
        found.append((extra, weight))
        yield loss, weight


def _parts(count: int, pieces: int) -> list[slice]:
    """``count`` items cut into at most ``pieces`` runs of near-equal length."""
    edges = np.linspace(0, count, min(pieces, count) + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
