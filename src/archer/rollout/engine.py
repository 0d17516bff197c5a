"""The decoder loop: many conversations, each in its own cache row, all advanced one token per forward call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from archer.models.actor import Actor
from archer.rollout.cache import SlotCache
from archer.types import Ids, LogProbs, Utterance

PREFILL_FROM = 12
"""From this many given tokens on, one parallel pass over them beats feeding them one per step beside the others."""


@dataclass(frozen=True)
class Sampling:
    """How utterances are drawn from the policy."""

    max_tokens: int = 32
    """Longest utterance, stop token included."""
    greedy: bool = False
    """Take the most likely token instead of sampling at temperature 1."""


class Engine:
    """Rows 0..active-1 are live. A row is fed its given tokens, then samples until the utterance ends."""

    def __init__(
        self, actor: Actor, rows: int, tokens: int, sampling: Sampling, cache: SlotCache | None = None
    ) -> None:
        self.actor = actor
        self.sampling = sampling
        self.capacity = tokens
        config = actor.model.config
        self.cache = cache or SlotCache(config.num_hidden_layers, rows, tokens)
        self.active = 0
        self._tokens = np.zeros((rows, tokens), np.int64)
        self._uniforms = np.zeros((rows, tokens), np.float32)
        self._logprobs = np.zeros((rows, tokens), np.float32)
        self._cached = np.zeros(rows, np.int64)  # tokens whose keys and values are in the cache
        self._filled = np.zeros(rows, np.int64)  # tokens given or sampled so far
        self._given = np.zeros(rows, np.int64)  # column at which the current utterance starts

    def open(self, ids: Ids, seed: Sequence[int], row: int | None = None, cached: int = 0) -> int:
        """Start a conversation from its first ``ids``, on a new row or in place of the one on ``row``.

        ``seed`` makes its samples its own: they depend neither on batch mates nor on the row. ``cached`` leading
        tokens are in the cache already.
        """
        if row is None:
            row = self.active
            self.active += 1
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(list(seed))))
        self._uniforms[row] = generator.random(self.capacity, dtype=np.float32)
        self._tokens[row, : len(ids)] = ids
        self._cached[row], self._filled[row], self._given[row] = cached, len(ids), len(ids)
        return row

    def give(self, row: int, ids: Ids) -> None:
        """Append tokens that the agent did not choose (an observation)."""
        start = self._filled[row]
        self._tokens[row, start : start + len(ids)] = ids
        self._filled[row] += len(ids)
        self._given[row] = self._filled[row]

    def room(self, row: int) -> int:
        """Tokens that still fit on the row."""
        return int(self.capacity - self._filled[row])

    def close(self, row: int) -> int:
        """Drop a conversation; the last row takes its place. Returns the row that moved (itself if none did)."""
        self.active -= 1
        last = self.active
        if row != last:
            self.cache.move(last, row, int(self._cached[last]))
            for array in (self._tokens, self._uniforms, self._logprobs, self._cached, self._filled, self._given):
                array[row] = array[last]
        return last

    def utterance(self, row: int) -> Utterance:
        """The utterance that just ended on the row."""
        span = slice(int(self._given[row]), int(self._filled[row]))
        ids: Ids = self._tokens[row, span].astype(np.int32)
        logprobs: LogProbs = self._logprobs[row, span].copy()
        return Utterance(ids=ids, logprobs=logprobs, text=self.actor.decode(ids))

    def tokens(self, row: int) -> Ids:
        """Every token on the row so far."""
        ids: Ids = self._tokens[row, : self._filled[row]].astype(np.int32)
        return ids

    @torch.inference_mode()
    def step(self) -> npt.NDArray[np.int64]:
        """Feed every live row one token and sample where its given tokens are used up; rows whose utterance ended."""
        live: npt.NDArray[np.int64] = np.arange(self.active)
        pending = self._filled[live] - self._cached[live]
        long = live[pending > PREFILL_FROM]
        if len(long):
            self.prefill(long)
        at = self._cached[live]
        logits = self._forward(live, self._tokens[live, at][:, None], at[:, None], leading=True)
        self._cached[live] += 1
        ready: npt.NDArray[np.int64] = live[self._cached[live] == self._filled[live]]
        if not len(ready):
            return ready
        token, logprob = self._sample(logits[torch.from_numpy(ready)][:, -1], ready)
        column = self._filled[ready]
        self._tokens[ready, column] = token
        self._logprobs[ready, column] = logprob
        self._filled[ready] += 1
        length = self._filled[ready] - self._given[ready]
        over = (token == self.actor.stop_id) | (length >= self.sampling.max_tokens)
        ended: npt.NDArray[np.int64] = ready[over | (self._filled[ready] >= self.capacity)]
        return ended

    @torch.inference_mode()
    def prefill(self, rows: npt.NDArray[np.int64]) -> None:
        """Put all but the last given token of ``rows`` into the cache, in one parallel pass."""
        start, end = self._cached[rows], self._filled[rows] - 1
        step = np.arange(max(1, int((end - start).max())))
        # Columns behind a row's end hold garbage until the row overwrites them; no token ever looks that far.
        columns = np.minimum(start[:, None] + step, self.capacity - 1)
        self._forward(rows, self._tokens[rows[:, None], columns], columns, leading=False, head=False)
        self._cached[rows] = end

    def _forward(
        self,
        rows: npt.NDArray[np.int64],
        tokens: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        *,
        leading: bool,
        head: bool = True,
    ) -> Tensor:
        model, device = self.actor.model, self.actor.device
        column = torch.from_numpy(columns).to(device)
        self.cache.aim(torch.from_numpy(rows).to(device), column, leading=leading)
        dtype = next(model.parameters()).dtype
        key = torch.arange(self.cache.read_tokens, device=device)
        hidden_from = key[None, None, :] > column[:, :, None]
        mask = torch.zeros(hidden_from.shape, dtype=dtype, device=device)
        mask.masked_fill_(hidden_from, torch.finfo(dtype).min)
        run = model if head else model.base_model
        output = run(
            input_ids=torch.from_numpy(tokens).to(device),
            attention_mask=mask[:, None],
            position_ids=column,
            past_key_values=self.cache,
            use_cache=True,
        )
        result: Tensor = output.logits if head else output.last_hidden_state
        return result

    def _sample(
        self, logits: Tensor, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """One token per row and its log-probability under the policy."""
        logprobs = self.actor.policy(logits.float()).log_softmax(dim=-1)
        if self.sampling.greedy:
            token = logprobs.argmax(dim=-1)
        else:
            # Inverse CDF with one uniform per token: exact, and the draw belongs to the game, not to the batch.
            uniform = torch.from_numpy(self._uniforms[rows, self._filled[rows]]).to(logits.device)
            cdf = logprobs.exp().cumsum(dim=-1)
            threshold = (uniform * cdf[:, -1])[:, None]
            token = torch.searchsorted(cdf, threshold, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
        chosen = logprobs.gather(1, token[:, None])[:, 0]
        return token.cpu().numpy(), chosen.cpu().numpy()
