"""The decoder loop: many conversations, each in its own cache row, their new tokens side by side in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.passes import Passes
from archer.rollout.backends import Ints, Places
from archer.rollout.cache import SlotCache
from archer.rollout.decoders import decoder_of
from archer.rollout.sampling import Sampling, cut, enders, stream_key, uniform
from archer.types import Ids, LogProbs, Utterance, moment

TOKENS_AT_ONCE = 4096
"""Most tokens of one forward pass: bounds its memory, and how long a long prompt keeps the others waiting."""
PADDED_AT_ONCE = 4 * TOKENS_AT_ONCE
"""The same with every conversation padded to the longest, which torch's attention does."""
FEWEST = 16
"""Matrix products of fewer rows may round differently than those of more; with at least so many, no game depends on
what is played beside it."""


class Engine:
    """Conversations on rows, each fed what it was given, then sampled until its utterance ends.

    A row speaks as soon as it has been given something and waits once its utterance has ended, until it is given more.
    """

    def __init__(self, actor: Actor, rows: int, tokens: int, sampling: Sampling) -> None:
        self.actor = actor
        self.sampling = sampling
        self.capacity = tokens
        layers = actor.network.config.num_hidden_layers
        self.cache = SlotCache(layers, rows, tokens, actor.device)
        self._tokens = np.zeros((rows, tokens), np.int64)
        self._logprobs = np.zeros((rows, tokens), np.float32)
        self._keys = np.zeros(rows, np.uint64)  # of the random numbers of each row
        self._cached = np.zeros(rows, np.int64)  # tokens whose keys and values are in the cache
        self._filled = np.zeros(rows, np.int64)  # tokens given or sampled so far
        self._given = np.zeros(rows, np.int64)  # column at which the current utterance starts
        self._speaking = np.zeros(rows, np.bool_)
        self._trunk = np.zeros(rows, np.int64)
        self._shared = np.zeros(rows, np.int64)  # tokens of the conversation that lie on the trunk's row
        self.clear()
        self.decoder = decoder_of(actor)
        if actor.model not in _CHECKED:
            _check(actor)

    @property
    def rows(self) -> int:
        """Conversations it has room for."""
        return len(self._filled)

    @property
    def active(self) -> bool:
        """Whether any row has something to say."""
        return bool(self._speaking.any())

    def open(self, ids: Ids, seed: Sequence[int], *, shared: tuple[int, int] = (0, 0)) -> int:
        """Start a conversation from its first ``ids`` on a free row, which is returned.

        ``seed`` makes its samples its own: they depend neither on batch mates nor on the row. ``shared``, a row of the
        trunk and a number of its tokens, come before ``ids``.
        """
        row = self._free.pop()
        self._trunk[row], self._shared[row] = shared
        self.restart(row, ids, seed)
        return row

    def restart(self, row: int, ids: Ids, seed: Sequence[int]) -> None:
        """Put ``ids`` in the place of all that a conversation held; the row speaks next, with another ``seed``."""
        self._keys[row] = stream_key(seed)
        self._cached[row], self._filled[row] = 0, 0
        self.give(row, ids)

    def give(self, row: int, ids: Ids) -> None:
        """Append tokens that the agent did not choose (an observation); the row speaks next."""
        start = self._filled[row]
        self._tokens[row, start : start + len(ids)] = ids
        self._filled[row] += len(ids)
        self._given[row] = self._filled[row]
        self._speaking[row] = True

    def clear(self, trunk: Engine | None = None) -> None:
        """Drop all conversations; those to come may begin on rows of ``trunk``."""
        self._speaking[:] = False
        self._free = list(range(self.rows))[::-1]
        self.cache.trunk = None if trunk is None else trunk.cache

    def close(self, row: int) -> None:
        """Drop a conversation."""
        self._speaking[row] = False
        self._free.append(row)

    def utterance(self, row: int) -> Utterance:
        """The utterance that just ended on the row."""
        span = slice(int(self._given[row]), int(self._filled[row]))
        ids: Ids = self._tokens[row, span].astype(np.int32)
        logprobs: LogProbs = self._logprobs[row, span].copy()
        return Utterance(ids=ids, logprobs=logprobs, text=cut(self.actor.decode(ids), self.sampling.stop))

    def tokens(self, row: int) -> Ids:
        """Every token on the row so far."""
        ids: Ids = self._tokens[row, : self._filled[row]].astype(np.int32)
        return ids

    @torch.inference_mode()
    def step(self) -> Ints:
        """Feed every speaking row what is new on it and sample where all is fed; rows whose utterance ended."""
        live = np.flatnonzero(self._speaking)
        most = max(1, TOKENS_AT_ONCE // max(1, len(live)))
        counts = np.minimum(self._filled[live] - self._cached[live], most)
        rows, columns = _spread(live, self._cached[live], counts)
        self._cached[live] += counts
        last = counts.cumsum() - 1
        said = self._cached[live] == self._filled[live]
        ready = live[said]
        logits = self._forward(rows, columns, last[said])
        return self.say(ready, logits, np.arange(len(ready))) if len(ready) else ready

    @torch.inference_mode()
    def encode(self, rows: Ints, columns: Ints) -> Tensor:
        """Feed all that is given on all rows, and nothing more; logits behind some of its tokens, [n, vocabulary].

        rows, columns: which tokens, sorted by both.
        """
        live = np.flatnonzero(self._speaking)
        counts = self._filled[live] - self._cached[live]
        every_row, every_column = _spread(live, self._cached[live], counts)
        self._cached[live] = self._filled[live]
        self._speaking[live] = False
        wanted = np.flatnonzero(np.isin(every_row * self.capacity + every_column, rows * self.capacity + columns))
        parts = []
        for start, end in pairwise(_edges(counts)):
            kept = wanted[(wanted >= start) & (wanted < end)] - start
            parts.append(self._forward(every_row[start:end], every_column[start:end], kept))
        return torch.cat(parts)

    @torch.inference_mode()
    def say(self, rows: Ints, logits: Tensor, lines: Ints) -> Ints:
        """Sample a token on each of ``rows`` from its line of ``logits``; the rows whose utterance ended with it."""
        column = self._filled[rows]
        greedy = self.sampling.greedy
        uniforms = np.full(len(rows), -1.0, np.float32) if greedy else uniform(self._keys[rows], column)
        policy = self.actor.policy(logits.float())
        drawn_from = policy if self.sampling.plain or greedy else self.sampling.adjust(policy)
        token, logprob = self.cache.backend.draw(drawn_from, lines, uniforms)
        if drawn_from is not policy:  # what is kept is the policy's own, whatever it was drawn by
            place = torch.from_numpy(lines).to(policy.device), torch.from_numpy(token).to(policy.device)
            logprob = policy.log_softmax(dim=-1)[place].cpu().numpy()
        if not np.isfinite(logprob).all():
            raise FloatingPointError("the policy's logits are not finite: its weights have diverged")
        self._tokens[rows, column] = token
        self._logprobs[rows, column] = logprob
        self._filled[rows] += 1
        length = self._filled[rows] - self._given[rows]
        over = (token == self.actor.stop_id) | (length >= self.sampling.max_tokens) | self._stopped(rows, token)
        ended: Ints = rows[over | (self._filled[rows] >= self.capacity)]
        self._speaking[ended] = False
        return ended

    def _stopped(self, rows: Ints, token: Ints) -> npt.NDArray[np.bool_]:
        """Which rows have just completed a stop text."""
        stop = self.sampling.stop
        if not stop:
            return np.zeros(len(rows), np.bool_)
        may = enders(self.actor.tokenizer, stop)
        looked_at = may[np.minimum(token, len(may) - 1)]
        for place in np.flatnonzero(looked_at):
            row = rows[place]
            said = self.actor.decode(self._tokens[row, self._given[row] : self._filled[row]].astype(np.int32))
            looked_at[place] = any(end in said for end in stop)
        return looked_at

    def _forward(self, rows: Ints, columns: Ints, kept: Ints) -> Tensor:
        """One pass over tokens at ``rows`` and ``columns``; logits behind the ``kept`` ones, [n, vocabulary]."""
        wanted = len(kept)
        rows, columns, kept = _at_least(rows), _at_least(columns), _at_least(kept)
        shared = self._shared[rows]
        places = Places(rows, columns + shared, self._trunk[rows], shared)
        logits = self.decoder(self._tokens[rows, columns], places, self.cache, kept)
        return logits[:wanted]


_CHECKED: WeakSet[Any] = WeakSet()


def _check(actor: Actor) -> None:
    """Refuse a model that does not say the same from our cache, and to the learner, as by itself; once per model.

    Two conversations, fed side by side and in two pieces, against a plain pass over the whole of each: whatever keeps
    its memory elsewhere (state-space layers) or attends in its own way (ALiBi, older architectures) is found out.
    """
    _CHECKED.add(actor.model)
    cause: Exception | None = None
    try:
        engine = Engine(actor, 2, 6, Sampling())
        texts = [np.arange(6, dtype=np.int32), np.arange(9, 4, -1, dtype=np.int32)]
        rows = np.array([engine.open(text[:3], []) for text in texts])
        engine.encode(rows, np.array([2, 2]))
        for row, text in zip(rows.tolist(), texts, strict=True):
            engine.give(row, text[3:])
        found = engine.encode(rows, np.array([len(text) - 1 for text in texts])).float()
        with torch.inference_mode():
            plain = [actor.network(torch.from_numpy(text.astype(np.int64))[None].to(actor.device)) for text in texts]
        wanted = torch.stack([output.logits[0, -1] for output in plain]).float()
        exact = actor.precision == plain[0].logits.dtype == torch.float32
        rounding = 1e-3 if exact else 0.1
        same = bool((found - wanted).abs().max() < rounding * wanted.std())
    except (TypeError, AttributeError, RuntimeError, ValueError) as error:
        same, cause = False, error
    if not same:
        _CHECKED.discard(actor.model)
        raise ValueError(
            f"{type(actor.network).__name__} cannot be played with: its layers do not attend through transformers' "
            "AttentionInterface to the cache they are given; the usual decoders do (Llama, Qwen, Mistral, Gemma, Phi, "
            "GPT-2, GPT-OSS, ...)"
        ) from cause
    if _misread(actor, texts, [output.logits[0].float() for output in plain]) > rounding * float(wanted.std()):
        _CHECKED.discard(actor.model)
        raise ValueError(
            f"{type(actor.network).__name__} cannot be learned with: its forward pass makes something else of its "
            "output layer's logits than what is known of others (final_logit_softcapping, logits_scaling, "
            "logit_scale in their configurations)"
        )


def _misread(actor: Actor, texts: Sequence[Ids], logits: Sequence[Tensor]) -> float:
    """How far the log-probabilities that are learned from are from what the model's own forward pass makes of
    ``texts``, [tokens, vocabulary] for each: the most of any token behind the first three."""
    said = [Utterance(text[3:], np.zeros(len(text) - 3, np.float32), "") for text in texts]
    games = [moment(text[:3], utterance) for text, utterance in zip(texts, said, strict=True)]
    batch = collate(games).to(actor.device)
    with torch.no_grad():
        hidden = Passes(actor.passes.precision).hidden(actor.model, batch)
        found = actor.full_logprobs(hidden, batch, batch.utterance_tokens())
    wanted = [
        line[2:-1].log_softmax(dim=-1).gather(1, torch.from_numpy(text[3:].astype(np.int64)).to(line.device)[:, None])
        for text, line in zip(texts, logits, strict=True)
    ]
    return float((found - torch.cat(wanted)[:, 0]).abs().max())


def _at_least(index: Ints) -> Ints:
    """``index`` with its last entry repeated until there are ``FEWEST``."""
    missing = FEWEST - len(index) if len(index) else 0
    return np.pad(index, (0, missing), "edge") if missing > 0 else index


def _edges(counts: Ints) -> list[int]:
    """Where to cut tokens, ``counts`` of each conversation after another, so that no pass takes too many."""
    edges, rows, longest, tokens = [0], 0, 0, 0
    for left in counts.tolist():
        while left:
            piece = min(left, TOKENS_AT_ONCE - tokens)
            if tokens and (not piece or (rows + 1) * max(longest, piece) > PADDED_AT_ONCE):
                edges.append(edges[-1] + tokens)
                rows, longest, tokens = 0, 0, 0
                continue
            rows, longest, tokens, left = rows + 1, max(longest, piece), tokens + piece, left - piece
    return [*edges, edges[-1] + tokens]


def _spread(rows: Ints, starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Row and column of every one of ``counts`` tokens from ``starts`` on, row by row."""
    step = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.repeat(rows, counts), np.repeat(starts, counts) + step
