"""What an engine elsewhere said, with the learner's own log-probabilities beside the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from archer.models.actor import Actor
from archer.models.batch import collate
from archer.types import Episode

EPISODES_AT_ONCE = 64
"""Episodes in one pass."""


@torch.no_grad()
def reconciled(actor: Actor, episodes: Sequence[Episode]) -> list[Episode]:
    """Games whose log-probabilities are an engine's, under the full softmax, as those of other games are kept: what
    the learner's policy gives, and beside it the engine's.

    The engine knows nothing of suppressed tokens' share of the probability, so the learner's is taken for both.
    """
    found: list[Episode] = []
    for start in range(0, len(episodes), EPISODES_AT_ONCE):
        part = episodes[start : start + EPISODES_AT_ONCE]
        batch = collate(part).to(actor.device)
        tokens, hidden = batch.utterance_tokens(), actor.hidden(batch)
        policy = actor.utterance_logprobs(hidden, batch, tokens).cpu()
        full = policy if not len(actor.suppressed) else actor.full_logprobs(hidden, batch, tokens).cpu()
        turns = [turn for episode in part for turn in episode.turns]
        lengths = [len(turn.utterance.ids) for turn in turns]
        kept = iter(
            replace(
                turn,
                utterance=replace(
                    turn.utterance,
                    logprobs=own.numpy(),
                    engine_logprobs=turn.utterance.logprobs + (own - whole).numpy(),
                ),
            )
            for turn, own, whole in zip(turns, torch.split(policy, lengths), torch.split(full, lengths), strict=True)
        )
        found += [replace(episode, turns=tuple(next(kept) for _ in episode.turns)) for episode in part]
    return found
