"""What ways of credit share: values of many games, advantages spread over tokens, and a common scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from archer.models.critic import Critic, Values, values_in_parts
from archer.types import Episode

Shares = npt.NDArray[np.float32]
"""Advantage of every token of an episode's utterances, shape [tokens]."""

SMALL = 1e-6
"""Added to standard deviations: games that all ended alike teach nothing, and must not divide by 0. Of float32's values
it is the share of their size below which differences are rounding."""


def values_of(
    episodes: Sequence[Episode], critic: Critic | None, *, by_token: bool = False
) -> Iterator[tuple[Sequence[Episode], Values]]:
    """The critic's values of the episodes, some at a time; ValueError where there is no critic."""
    if critic is None:
        raise ValueError("this advantage needs a critic")
    return values_in_parts(critic, episodes, by_token=by_token)


def whiten(advantages: Sequence[Tensor]) -> list[Shares]:
    """All together with mean 0 and standard deviation 1: the actor's step does not depend on the size of rewards."""
    joined = torch.cat(list(advantages)).double()
    mean, deviation = joined.mean(), joined.std(correction=0)
    if deviation <= SMALL * joined.abs().max():
        return [np.zeros(len(part), np.float32) for part in advantages]
    return [((part - mean) / (deviation + SMALL)).cpu().numpy().astype(np.float32) for part in advantages]


def over_tokens(advantages: npt.ArrayLike, episode: Episode) -> Shares:
    """Each turn's advantage, once for every token said in it."""
    return np.repeat(np.asarray(advantages, np.float32), [len(turn.utterance.ids) for turn in episode.turns])


def relative(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Each value less the mean of all, in their standard deviations; 0 where all are alike."""
    array = np.asarray(values, np.float64)
    found: npt.NDArray[np.float64] = (array - array.mean()) / (array.std() + SMALL)
    return found


def relative_to_group(episodes: Sequence[Episode]) -> list[float]:
    """Every game's return relative to those of the same task seed; 0 where all others of it were lost.

    Games that failed have 0 too, and are no part of a group. ValueError where every seed was played once only.
    """
    members: dict[int, list[int]] = {}
    for index, episode in enumerate(episodes):
        members.setdefault(episode.seed, []).append(index)
    found = [0.0] * len(episodes)
    if all(len(indices) < 2 for indices in members.values()):
        raise ValueError(
            "every task seed was played once: a group of one has nothing to be compared with, and its advantage would "
            "always be 0; set rollout.group to at least 2"
        )
    for everyone in members.values():
        indices = [index for index in everyone if not episodes[index].failed]
        if not indices:
            continue
        for index, value in zip(indices, relative([episodes[i].return_ for i in indices]), strict=True):
            found[index] = float(value)
    return found
