"""A key/value cache with one row per conversation, each of its own length, kept across turns."""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from archer.rollout.backends import Backend, Places, Scoring, Store, backend_for


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer."""

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self._cache = ref(cache)  # or the memory of both would wait for the collector of cycles
        self.store: Store | None = None

    @property
    def cache(self) -> SlotCache:
        cache = self._cache()
        assert cache is not None, "its layers are asked through it"
        return cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.room(key_states.shape[1], key_states.shape[3], key_states)

    def room(self, heads: int, width: int, like: Tensor) -> Store:
        """Its memory, of the type and on the device of ``like``, found at the first call."""
        if self.store is None or self.store.keys.dtype != like.dtype:
            self.store = self.cache.backend.allocate(self.cache.rows, heads, self.cache.tokens, width, like)
            self.is_initialized = True
        return self.store

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        store = self.room(key_states.shape[1], key_states.shape[3], key_states)
        new_keys, new_values = key_states[0].transpose(0, 1), value_states[0].transpose(0, 1)
        self.cache.backend.write(store, new_keys, new_values, self.cache.places)
        return key_states, value_states  # `attend` looks the others up in the cache

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.cache.tokens


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of ``rows`` conversations of up to ``tokens`` tokens, for any model that takes a HF cache.

    A forward pass takes tokens of any number of conversations side by side, as a batch of one; ``places``, set before
    it, says where each belongs. Nothing is moved when a conversation grows, ends or is replaced. Conversations that
    begin alike can share a ``trunk``, the rows of another cache.
    """

    def __init__(self, layers: int, rows: int, tokens: int, device: torch.device) -> None:
        self.rows = rows
        self.tokens = tokens
        self.trunk: SlotCache | None = None
        self.backend: Backend = backend_for(device)
        nowhere = np.zeros(0, np.int64)
        self.places = Places(nowhere, nowhere, nowhere, nowhere)
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def attend(self, layer: int, query: Tensor, scoring: Scoring) -> Tensor:
        """What the N tokens of this pass see of their conversations so far; query and result [N, heads, width]."""
        own = self.layers[layer].store
        trunk = own if self.trunk is None else self.trunk.layers[layer].store
        return self.backend.attend(query, own, trunk, self.places, scoring)
