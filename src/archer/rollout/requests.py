"""Playing with an engine elsewhere: every utterance is a request of its own, token ids in, token ids out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from archer.models.actor import Actor
from archer.rollout.backends import Ints
from archer.rollout.reconcile import reconciled
from archer.rollout.sampling import Sampling, cut, enders, stream_key
from archer.rollout.speaking import EngineError
from archer.types import Episode, Ids, LogProbs, Utterance, moment

LARGEST_GAP = 0.2
"""Nats between engine and learner, on average over tokens, that are no rounding any more: that of bfloat16 makes some
hundredths."""

FORBIDDEN = -100.0
"""What engines add to a suppressed token's logit: the least that their protocols allow."""


@dataclass(frozen=True)
class Request:
    """An utterance to be said behind a conversation."""

    key: int
    """The answer's."""
    prompt: Ids
    """All of the conversation."""
    seed: int
    """Of its samples; below 2**31."""
    most: int
    """Tokens that it may have."""


@dataclass(frozen=True)
class Answer:
    """What was said to a request."""

    key: int
    """The request's."""
    ids: Ids
    logprobs: LogProbs
    """Under the model's full softmax at temperature 1, suppressed tokens included."""


class Line(ABC):
    """Where requests go and answers come from, all with the same sampling."""

    @abstractmethod
    def ask(self, request: Request) -> None:
        """Hand in a request; does not wait."""

    @abstractmethod
    def answers(self) -> list[Answer]:
        """Go on for a moment; what has been answered. EngineError where nothing more can come."""


class Elsewhere(ABC):
    """An engine that is not the built-in one, with weights of its own that follow the actor's."""

    def __init__(self) -> None:
        self._tried = False

    @abstractmethod
    def follow(self, actor: Actor) -> None:
        """Take over the actor's weights as they are now; EngineError where that does not work."""

    @abstractmethod
    def line(self, actor: Actor, sampling: Sampling) -> Line:
        """A way to ask for utterances."""

    def prepare(self, actor: Actor, sampling: Sampling) -> None:
        self.follow(actor)
        if self._tried:
            return
        few = replace(sampling, max_tokens=12, stop=())
        prompts = [np.arange(start, start + 4, dtype=np.int32) for start in range(4)]
        groups = Offers(self, actor, few).at(prompts, 1, [[start] for start in range(4)])
        self.settled(actor, [moment(prompt, said) for prompt, (said,) in zip(prompts, groups, strict=True)])
        self._tried = True

    def conversations(self, actor: Actor, rows: int, tokens: int, sampling: Sampling) -> Requests:
        self.prepare(actor, sampling)
        return Requests(self.line(actor, sampling), actor, rows, tokens, sampling)

    def sampler(self, actor: Actor, sampling: Sampling) -> Offers:
        self.prepare(actor, sampling)
        return Offers(self, actor, sampling)

    def settled(self, actor: Actor, episodes: Sequence[Episode]) -> list[Episode]:
        found = reconciled(actor, episodes)
        gap = np.concatenate([np.zeros(0), *(episode.engine_gap for episode in found)])
        if not np.isfinite(gap).all():
            raise FloatingPointError("the policy's logits are not finite: its weights have diverged")
        if len(gap) and gap.mean() > LARGEST_GAP:
            raise EngineError(
                f"the engine's log-probabilities are {gap.mean():.2g} nats from the policy's on average, more than "
                "rounding: it has another model or other weights, or gives them at another temperature than 1"
            )
        return found


class Requests:
    """Conversations whose utterances are said elsewhere; see ``Conversations``.

    tokens: most of a conversation.
    """

    def __init__(self, line: Line, actor: Actor, rows: int, tokens: int, sampling: Sampling) -> None:
        self.capacity = tokens
        self._line, self._actor, self._sampling = line, actor, sampling
        self._free = list(range(rows))[::-1]
        self._tokens: list[Ids] = [np.zeros(0, np.int32)] * rows
        self._seeds: list[Sequence[int]] = [()] * rows
        self._said: dict[int, Utterance] = {}  # by row
        self._asked: dict[int, int] = {}  # by key: the row
        self._keys = 0
        self._suppressed = frozenset(actor.suppressed.tolist())

    @property
    def rows(self) -> int:
        return len(self._tokens)

    @property
    def active(self) -> bool:
        return bool(self._asked)

    def open(self, ids: Ids, seed: Sequence[int]) -> int:
        row = self._free.pop()
        self.restart(row, ids, seed)
        return row

    def restart(self, row: int, ids: Ids, seed: Sequence[int]) -> None:
        self._tokens[row], self._seeds[row] = np.zeros(0, np.int32), seed
        self.give(row, ids)

    def give(self, row: int, ids: Ids) -> None:
        self._tokens[row] = prompt = np.concatenate([self._tokens[row], ids])
        self._said.pop(row, None)
        self._keys += 1
        self._asked[self._keys] = row
        seed = stream_key([*self._seeds[row], len(prompt)]) >> 33  # of 31 bits, which every engine takes
        most = min(self._sampling.max_tokens, self.capacity - len(prompt))
        self._line.ask(Request(self._keys, prompt, seed, most))

    def close(self, row: int) -> None:
        self._said.pop(row, None)
        self._free.append(row)

    def utterance(self, row: int) -> Utterance:
        return self._said[row]

    def tokens(self, row: int) -> Ids:
        return self._tokens[row]

    def step(self) -> Ints:
        ended = []
        for answer in self._line.answers():
            row = self._asked.pop(answer.key)
            self._said[row] = utterance = self._checked(answer)
            self._tokens[row] = np.concatenate([self._tokens[row], utterance.ids])
            ended.append(row)
        return np.array(ended, np.int64)

    def _checked(self, answer: Answer) -> Utterance:
        """The answer as an utterance; EngineError for what the policy could not have said."""
        end = self._end(answer.ids)
        ids, logprobs = answer.ids[:end], answer.logprobs[:end]
        if not len(ids) or len(ids) != len(logprobs):
            raise EngineError(f"the engine gave {len(ids)} tokens with {len(logprobs)} log-probabilities")
        if ids.min() < 0 or ids.max() >= self._actor.vocabulary:
            raise EngineError(
                f"the engine said token {int(ids.max())}, and the policy has {self._actor.vocabulary}: it has another "
                "model"
            )
        if forbidden := self._suppressed & set(ids.tolist()):
            raise EngineError(
                f"the engine said token {min(forbidden)}, which the policy never does: it ignores logit_bias; take "
                "another engine, or a layout that forbids nothing (rollout.layout=plain or chat)"
            )
        if not np.isfinite(logprobs).all():
            raise EngineError("the engine's log-probabilities are not finite")
        return Utterance(ids, logprobs, cut(self._actor.decode(ids), self._sampling.stop))

    def _end(self, ids: Ids) -> int:
        """Tokens up to the first that ends an utterance, by the rules of the built-in engine."""
        stop, actor = self._sampling.stop, self._actor
        may = enders(actor.tokenizer, stop) if stop else np.zeros(1, np.bool_)
        for count, token in enumerate(ids.tolist(), start=1):
            if token == actor.stop_id:
                return count
            if may[min(token, len(may) - 1)] and any(end in actor.decode(ids[:count]) for end in stop):
                return count
        return len(ids)


class Offers:
    """Draws utterances at states elsewhere: requests with the same prompt, whose beginning an engine that caches
    prefixes reads once."""

    def __init__(self, engine: Elsewhere, actor: Actor, sampling: Sampling) -> None:
        self.actor = actor
        self._engine, self._sampling = engine, sampling

    def at(self, states: Sequence[Ids], count: int, seeds: Sequence[Sequence[int]]) -> list[list[Utterance]]:
        most = max(map(len, states)) + self._sampling.max_tokens
        line = self._engine.line(self.actor, self._sampling)
        table = Requests(line, self.actor, len(states) * count, most, self._sampling)
        rows = [
            [table.open(state, [*seed, k]) for k in range(count)] for state, seed in zip(states, seeds, strict=True)
        ]
        while table.active:
            table.step()
        return [[table.utterance(row) for row in group] for group in rows]
