"""What playing needs of an engine, and the built-in one as that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from archer.models.actor import Actor
from archer.rollout.backends import Ints
from archer.rollout.decoders import refresh
from archer.rollout.engine import Engine
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode, Ids, Utterance


class EngineError(RuntimeError):
    """An engine does not say what it should; the message says what to do."""


class Conversations(Protocol):
    """Conversations on rows, each given tokens, then speaking until its utterance ends, then waiting for more."""

    @property
    def rows(self) -> int:
        """Conversations it has room for."""
        ...

    @property
    def active(self) -> bool:
        """Whether any of them is speaking."""
        ...

    def open(self, ids: Ids, seed: Sequence[int]) -> int:
        """Start a conversation from its first ``ids`` on a free row, which is returned; its samples are ``seed``'s."""
        ...

    def give(self, row: int, ids: Ids) -> None:
        """Append tokens that the agent did not choose; the row speaks next."""
        ...

    def restart(self, row: int, ids: Ids, seed: Sequence[int]) -> None:
        """Put ``ids`` in the place of all that a conversation held; the row speaks next, with another ``seed``."""
        ...

    def step(self) -> Ints:
        """Go on for a moment; rows whose utterance ended."""
        ...

    def utterance(self, row: int) -> Utterance:
        """The utterance that just ended on the row."""
        ...

    def tokens(self, row: int) -> Ids:
        """Every token on the row so far."""
        ...

    def close(self, row: int) -> None:
        """Drop a conversation."""
        ...


class Sampler(Protocol):
    """Draws several utterances at each of some states."""

    @property
    def actor(self) -> Actor:
        """Whose they are."""
        ...

    def at(self, states: Sequence[Ids], count: int, seeds: Sequence[Sequence[int]]) -> list[list[Utterance]]:
        """``count`` utterances at every state, each state with a seed of its own, shape [states][count]."""
        ...


class Speaker(Protocol):
    """An engine: it says what an actor would."""

    def prepare(self, actor: Actor, sampling: Sampling) -> None:
        """Take over the actor's weights; the first time, EngineError from an engine that does not speak like it."""
        ...

    def conversations(self, actor: Actor, rows: int, tokens: int, sampling: Sampling) -> Conversations:
        """Room for ``rows`` conversations of ``tokens`` at most, with the actor's weights as they are now."""
        ...

    def sampler(self, actor: Actor, sampling: Sampling) -> Sampler:
        """Draws utterances of the actor as it is now."""
        ...

    def settled(self, actor: Actor, episodes: Sequence[Episode]) -> list[Episode]:
        """Games that were played with the engine, with the log-probabilities that ``actor`` gives to what was said."""
        ...


class BuiltIn:
    """The decoder loop of this library."""

    def prepare(self, actor: Actor, sampling: Sampling) -> None:
        """Nothing to do: it speaks with the actor's own weights, and tries each kind of model by itself."""

    def conversations(self, actor: Actor, rows: int, tokens: int, sampling: Sampling) -> Engine:
        refresh(actor)
        return Engine(actor, rows, tokens, sampling)

    def sampler(self, actor: Actor, sampling: Sampling) -> SiblingSampler:
        refresh(actor)
        return SiblingSampler(actor, sampling)

    def settled(self, actor: Actor, episodes: Sequence[Episode]) -> list[Episode]:
        return list(episodes)


BUILT_IN = BuiltIn()
