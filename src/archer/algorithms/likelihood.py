"""How likely a policy would say what was said: of games that others played, and of demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from archer import devices
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.packing import in_parts
from archer.types import Episode


def policy_ratios(actor: Actor, episodes: Sequence[Episode]) -> list[Tensor]:
    """π(a|s) / μ(a|s) of every utterance of every episode, [turns] each: of the policy as it is to whoever spoke.

    Where it is not known how likely that was (NaN), the policy is taken for the speaker: 1.
    """
    found = []
    for episode, logprobs in zip(episodes, _said(actor, episodes), strict=True):
        logged = torch.from_numpy(episode.logprobs)
        spoken = torch.arange(len(episode)).repeat_interleave(
            torch.tensor([len(turn.utterance.ids) for turn in episode.turns])
        )
        by_turn = torch.zeros(len(episode)).index_add(0, spoken, logprobs - logged)
        found.append(by_turn.nan_to_num(nan=0.0).exp())
    return found


def as_said_by(
    actor: Actor, episodes: Sequence[Episode], report: Callable[[int], None] = lambda games: None
) -> list[Episode]:
    """The same episodes, with the log-probabilities that ``actor`` gives to what nobody knows how likely it was: to the
    demonstrations of a player who is no policy, whom it has cloned. ``report`` hears how many more are done."""
    unknown = [episode for episode in episodes if np.isnan(episode.turns[0].utterance.logprobs).any()]
    report(len(episodes) - len(unknown))
    known: dict[int, Episode] = {}
    for episode, logprobs in zip(unknown, _said(actor, unknown), strict=True):
        known[id(episode)] = episode.with_logprobs(logprobs.numpy())
        report(1)
    return [known.get(id(episode), episode) for episode in episodes]


def _said(actor: Actor, episodes: Sequence[Episode]) -> Iterator[Tensor]:
    """Log-probability of every token of each episode's utterances, float32 [T] on the CPU."""
    parts = [episodes[part] for part in in_parts(episodes)]

    def look(part: Sequence[Episode]) -> Tensor:
        batch = collate(part).to(actor.device)
        with torch.no_grad():
            return actor.logprobs(batch, batch.utterance_tokens()).cpu()

    for part, logprobs in zip(parts, devices.divide(parts, look), strict=True):
        yield from torch.split(logprobs, [episode.tokens_said for episode in part])
