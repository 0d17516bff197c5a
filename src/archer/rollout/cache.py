"""A key/value cache with one row per conversation, each of its own length, kept across turns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """Preallocated keys and values of one layer, shape [rows, heads, tokens, head width]."""

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, tokens = self.cache.rows, self.cache.tokens
        self.keys = key_states.new_zeros(rows, key_states.shape[1], tokens, key_states.shape[3])
        self.values = value_states.new_zeros(rows, value_states.shape[1], tokens, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        cache = self.cache
        # Writing [n, t, heads, width]: advanced indices on dimensions 0 and 2 bring those two to the front.
        self.keys[cache.write_row, :, cache.write_at] = key_states.transpose(1, 2)
        self.values[cache.write_row, :, cache.write_at] = value_states.transpose(1, 2)
        if cache.read_rows is None:
            n = key_states.shape[0]
            return self.keys[:n, :, : cache.read_tokens], self.values[:n, :, : cache.read_tokens]
        return (
            self.keys[cache.read_rows, :, : cache.read_tokens],
            self.values[cache.read_rows, :, : cache.read_tokens],
        )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.read_tokens, 0

    def get_seq_length(self) -> int:
        return self.cache.read_tokens

    def get_max_length(self) -> int:
        return self.cache.tokens


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of ``rows`` conversations of up to ``tokens`` tokens, for any model that takes a HF cache.

    Before a forward call, ``aim`` says where its new tokens go and how far back they may look; raggedness is
    the business of the attention mask. Nothing is moved when a conversation grows, ends or is replaced.
    """

    def __init__(self, layers: int, rows: int, tokens: int) -> None:
        self.rows = rows
        self.tokens = tokens
        self.write_row = torch.empty(0, dtype=torch.long)
        self.write_at = torch.empty(0, dtype=torch.long)
        self.read_rows: Tensor | None = None
        self.read_tokens = 0
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def aim(self, rows: Tensor, columns: Tensor, *, leading: bool) -> None:
        """Point the next forward call at ``rows`` [n] and ``columns`` [n, t].

        ``leading`` promises that rows are 0..n-1 in order, which lets attention read the buffer in place.
        """
        self.write_row = rows[:, None].expand_as(columns)
        self.write_at = columns
        self.read_rows = None if leading else rows
        self.read_tokens = int(columns.max()) + 1

    @torch.inference_mode()
    def move(self, source: int, target: int, tokens: int) -> None:
        """Overwrite row ``target`` with the first ``tokens`` tokens of row ``source``."""
        for layer in self.layers:
            layer.keys[target, :, :tokens] = layer.keys[source, :, :tokens]
            layer.values[target, :, :tokens] = layer.values[source, :, :tokens]

    @torch.inference_mode()
    def branch_from(self, trunk: SlotCache, sources: Tensor, tokens: int) -> None:
        """Start row i as the first ``tokens`` tokens of row ``sources[i]`` of another cache."""
        for old, new in zip(trunk.layers, self.layers, strict=True):
            if not new.is_initialized:
                new.lazy_initialization(old.keys, old.values)
            new.keys[: len(sources), :, :tokens] = old.keys[sources, :, :tokens]
            new.values[: len(sources), :, :tokens] = old.values[sources, :, :tokens]
