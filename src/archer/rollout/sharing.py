"""Games shared among processes: each plays some tasks, and all get all games."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from archer import devices
from archer.devices.sharding import put_together
from archer.envs.base import Environment
from archer.models.actor import Actor
from archer.rollout.play import Limits
from archer.rollout.seat import Faults
from archer.storage.shards import pack, unpack
from archer.types import Episode


def play_shared(
    player: Callable[..., list[Episode]],
    asked: Sequence[nn.Module],
    actor: Actor,
    make_env: Callable[[], Environment],
    seeds: Sequence[int],
    *,
    limits: Limits,
    faults: Faults | None = None,
    aside: bool = False,
    **rules: Any,
) -> list[Episode]:
    """As ``player``, ``play`` or another with its arguments, but each process plays its share; ``asked`` is what it
    passes through besides the actor, and ``aside`` says that this is a thread beside the learner's.

    Games of one seed are played in one process, in which they are told apart. What a process has read of a game is what
    is stored of it: the same in all.
    """
    if devices.count() == 1:
        return player(actor, make_env, seeds, limits=limits, faults=faults, **rules)
    place = {seed: index for index, seed in enumerate(dict.fromkeys(seeds))}
    own = [seed for seed in seeds if place[seed] % devices.count() == devices.number()]
    faults = faults or Faults(len(seeds), limits.max_failures)
    with put_together(actor, *asked):
        episodes = player(actor, make_env, own, limits=limits, faults=faults, **rules) if own else []
    gathered = devices.gather((pack(episodes, 0), faults.tally), aside=aside)
    faults.settle([tally for _, tally in gathered])
    found = [episode for packed, _ in gathered for episode in unpack(packed)]
    return sorted(found, key=lambda episode: place[episode.seed])
