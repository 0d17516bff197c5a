"""What the target critic thinks of the games that are learned from: asked at every step, or kept for some iterations.

With V learned from ã ~ π (the paper's way), an utterance is drawn at every state first; drawing and asking are half of
what a critic's step of a large model costs. Kept values are as old as the policy and the target critic of the
iteration they are from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Protocol

import torch
from torch import Tensor

from archer import devices
from archer.algorithms.high import HighLevel
from archer.algorithms.likelihood import policy_ratios
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch, collate
from archer.models.critic import Values
from archer.models.packing import Siblings, in_parts
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode


class TargetValues(Protocol):
    """The target critic's values of any of the games that were drawn."""

    def __call__(self, batch: EpisodeBatch) -> Values: ...


class FreshValues:
    """The target critic is asked anew, as it is at each step; utterances are drawn at the start, for all steps."""

    def __init__(
        self,
        agent: Agent,
        high: HighLevel,
        sampler: SiblingSampler | None = None,
        drawn: Sequence[Sequence[Episode]] = (),
        seed: Sequence[int] = (),
    ) -> None:
        assert agent.target_critic is not None, "where there is a critic, there is its target"
        self._critic = agent.target_critic
        self._by_token = high.by_token
        self._siblings: dict[int, Siblings] = {}
        self._ratios: dict[int, Tensor] = {}
        games = list(_distinct(drawn).values())
        if high.resamples and sampler is not None:
            self._siblings = dict(zip(map(id, games), sampler.sample(games, 1, seed), strict=True))
        if high.reweighs:
            self._ratios = dict(zip(map(id, games), policy_ratios(agent.policy, games), strict=True))

    def __call__(self, batch: EpisodeBatch) -> Values:
        said = self.siblings(batch.episodes)
        if said:  # only targets ask what siblings get
            batch = collate(batch.episodes, said).to(batch.ids.device)
        values = self._critic(batch, tokens=self._by_token)
        if self._ratios:
            ratio = torch.cat([self._ratios[id(episode)] for episode in batch.episodes])
            values = replace(values, ratio=ratio.to(batch.ids.device))
        return values

    def siblings(self, episodes: Sequence[Episode]) -> list[Siblings] | None:
        """What was drawn at the states of the episodes, [episodes][turns][1]; None where nothing was."""
        return [self._siblings[id(episode)] for episode in episodes] if self._siblings else None


class KeptValues:
    """Each game's values are found once, when it is first drawn, and again after ``iterations`` iterations."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self._now = 0
        self._kept: dict[int, tuple[int, Episode, Values]] = {}  # by identity: iteration, the game, its values

    def prepare(
        self,
        agent: Agent,
        high: HighLevel,
        sampler: SiblingSampler,
        drawn: Sequence[Sequence[Episode]],
        seed: Sequence[int],
    ) -> None:
        """Begin an iteration: forget what is too old, and find what is missing of the games drawn for it."""
        self._now += 1
        self._kept = {key: kept for key, kept in self._kept.items() if self._now - kept[0] < self.iterations}
        missing = [episode for key, episode in _distinct(drawn).items() if key not in self._kept]
        fresh = FreshValues(agent, high, sampler, [missing], seed)
        parts = [missing[part] for part in in_parts(missing, fresh.siblings(missing))]

        def look(part: Sequence[Episode]) -> Values:
            with torch.no_grad():
                return fresh(collate(part).to(agent.actor.device)).to("cpu")

        for part, values in zip(parts, devices.divide(parts, look), strict=True):
            for episode, own in zip(part, values.apart(part), strict=True):
                self._kept[id(episode)] = self._now, episode, own

    def __call__(self, batch: EpisodeBatch) -> Values:
        return Values.joined([self._kept[id(episode)][2] for episode in batch.episodes]).to(batch.ids.device)

    def state(self, *sources: Replay | None) -> dict[str, Tensor]:
        """All of it as tensors, games by their place in ``sources``; those that all have forgotten are left out."""
        places = {
            id(episode): (number, index)
            for number, source in enumerate(sources)
            for index, episode in enumerate(source or ())
        }
        known = [(*places[key], *kept) for key, kept in self._kept.items() if key in places]
        index = [[number, place, born] for number, place, born, *_ in known]
        found = {"now": torch.tensor(self._now), "index": torch.tensor(index, dtype=torch.long).reshape(-1, 3)}
        if known:
            found |= vars(Values.joined([values for *_, values in known]))
        return found

    def restore(self, state: Mapping[str, Tensor], *sources: Replay | None) -> None:
        """Take over what ``state`` gave, from the same games in the same places."""
        self._now = int(state["now"])
        index = state["index"].tolist()
        found = [list(source or ()) for source in sources]
        episodes = [found[number][place] for number, place, _ in index]
        if episodes:
            values = Values(**{field.name: state[field.name] for field in fields(Values)})
            for (_, _, born), episode, own in zip(index, episodes, values.apart(episodes), strict=True):
                self._kept[id(episode)] = born, episode, own


def _distinct(drawn: Sequence[Sequence[Episode]]) -> dict[int, Episode]:
    return {id(episode): episode for batch in drawn for episode in batch}
