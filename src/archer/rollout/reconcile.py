"""What an engine elsewhere said, with the learner's own log-probabilities beside the engine's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.packing import in_parts
from archer.types import Episode


@torch.no_grad()
def reconciled(actor: Actor, episodes: Sequence[Episode]) -> list[Episode]:
    """Games whose log-probabilities are an engine's, under the full softmax, as those of other games are kept: what
    the learner's policy gives, and beside it the engine's.

    The engine knows nothing of suppressed tokens' share of the probability, so the learner's is taken for both.
    """
    found: list[Episode] = []
    for part in (episodes[part] for part in in_parts(episodes)):
        batch = collate(part).to(actor.device)
        tokens, hidden = batch.utterance_tokens(), actor.hidden(batch)
        policy = actor.utterance_logprobs(hidden, batch, tokens).cpu()
        full = policy if not len(actor.suppressed) else actor.full_logprobs(hidden, batch, tokens).cpu()
        said = [episode.tokens_said for episode in part]
        found += [
            episode.with_logprobs(own.numpy(), engine=episode.logprobs + (own - whole).numpy())
            for episode, own, whole in zip(part, torch.split(policy, said), torch.split(full, said), strict=True)
        ]
    return found
