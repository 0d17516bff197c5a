"""What playing and sampling take: caches, the copies of weights that play, and passes over a few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from archer import devices
from archer.devices.sharding import put_together
from archer.models.actor import Actor
from archer.rollout.backends import Backend, CompiledBackend, Places, Scoring, Store, TorchBackend, backend_for
from archer.rollout.cache import SlotCache
from archer.rollout.decoders import AnyDecoder
from archer.rollout.engine import TOKENS_AT_ONCE
from archer.rollout.fused import FusedDecoder, Gpt2Decoder, LlamaDecoder
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler, conversations, room_for, within
from archer.types import Ids, Utterance


class _Kernels(CompiledBackend):
    """The compiled backend, whose kernels read no memory that is not there."""

    def write(self, store: Store, keys: Tensor, values: Tensor, places: Places) -> None:
        pass

    def attend(self, query: Tensor, store: Store, trunk: Store, places: Places, scoring: Scoring) -> Tensor:
        return query.float().contiguous().to(query.dtype)


class Players:
    """Decoders of a run's actors, on a processor or elsewhere."""

    def __init__(self, device: str) -> None:
        compiled = device == "cpu" and isinstance(backend_for(torch.device("cpu")), CompiledBackend)
        self.backend: Backend = _Kernels() if compiled else TorchBackend()
        self._decoders: WeakKeyDictionary[Actor, _Fused | AnyDecoder] = WeakKeyDictionary()

    def refresh(self, actor: Actor) -> None:
        """Let an actor's decoder take over its weights, as whoever begins to play does."""
        if actor in self._decoders:
            self._decoders[actor].refresh()
            return
        fused = [kind for kind in (LlamaDecoder, Gpt2Decoder) if kind.fits(actor)]
        written_out = isinstance(self.backend, CompiledBackend) and fused
        self._decoders[actor] = _Fused(actor, fused[0]) if written_out else AnyDecoder(actor)

    def cache(self, actor: Actor, rows: int, tokens: int, trunk: SlotCache | None = None) -> SlotCache:
        """Room for ``rows`` conversations of ``tokens`` tokens."""
        made = SlotCache(actor.network.config.num_hidden_layers, rows, tokens, torch.device("cpu"))
        made.backend, made.trunk = self.backend, trunk
        return made

    def feed(
        self, actor: Actor, cache: SlotCache, rows: int, begin: int, tokens: int, *, logits: int = 0, drawn: int = 0
    ) -> None:
        """A pass over ``tokens`` tokens of each of ``rows`` conversations, from column ``begin`` on; behind ``logits``
        of them (one of each row unless told) as many or ``drawn`` tokens are drawn."""
        row = np.repeat(np.arange(rows), tokens)
        column = np.tile(np.arange(begin, begin + tokens), rows)
        shared = np.full(len(row), 0 if cache.trunk is None else cache.trunk.tokens)
        trunk = row if cache.trunk is None else row % cache.trunk.rows
        places = Places(row, column + shared, trunk, shared)
        wanted = np.arange(min(logits or rows, len(row)))
        with torch.no_grad():
            policy = actor.policy(self._decoders[actor](np.zeros(len(row), np.int64), places, cache, wanted).float())
            if isinstance(self.backend, CompiledBackend):
                policy.clamp(min=-1e30)
            else:
                logprobs = policy.log_softmax(dim=-1)[torch.zeros(drawn or len(wanted), dtype=torch.long)]
                logprobs.exp().cumsum(dim=-1)

    def converse(self, actor: Actor, rows: int, tokens: int, first: int) -> None:
        """Play: conversations begin with ``first`` tokens each and grow to ``tokens``."""
        self.refresh(actor)
        cache = self.cache(actor, rows, tokens)
        self.feed(actor, cache, rows, 0, max(1, min(first, TOKENS_AT_ONCE // rows)))
        self.feed(actor, cache, rows, tokens - 1, 1)


class _Fused:
    """A fused decoder: copies of a model's matrices, as it holds them."""

    def __init__(self, actor: Actor, kind: type[FusedDecoder]) -> None:
        self._actor = actor.network  # what an actor's decoder must not do, but this one is gone with the plan
        self._dtype = actor.precision
        self._in_place = kind is Gpt2Decoder and self._dtype == torch.float32
        self._copies: list[Tensor] = []
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        model = self._actor
        outer = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
        inner = [p for p in model.parameters() if p.ndim == 2 and id(p) not in outer]
        output = model.get_output_embeddings().weight
        new = [] if self._in_place else [torch.empty_like(p, dtype=self._dtype) for p in inner]
        if self._dtype != output.dtype:
            new.append(torch.empty_like(output, dtype=self._dtype))
        self._copies = new  # only now are the old ones given up

    def __call__(self, ids: Any, places: Places, cache: SlotCache, kept: Any) -> Tensor:
        config, count = self._actor.config, len(ids)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        like = self._output.new_empty(0, dtype=self._dtype)
        for layer in cache.layers:
            layer.room(heads, width, like)
        x = self._output.new_empty(count, config.hidden_size, dtype=torch.float32)
        raised = x.new_empty(count, 2 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size))
        logits: Tensor = x.new_empty(len(kept), self._output.shape[0], dtype=self._dtype)
        del x, raised
        return logits

    @property
    def _output(self) -> Tensor:
        weight: Tensor = self._actor.get_output_embeddings().weight
        return weight


class PretendedSampler(SiblingSampler):
    """Siblings as long as they may be; what is kept between calls is kept."""

    def __init__(self, actor: Actor, sampling: Sampling, players: Players) -> None:
        super().__init__(actor, sampling)
        self._players = players
        self._trunks: SlotCache | None = None
        self._branches: SlotCache | None = None

    def sample(self, episodes: Sequence[Any], count: int, seed: Sequence[int]) -> list[list[list[Utterance]]]:
        own = episodes[:: devices.count()]
        states = [turn.prompt_ids for episode in own for turn in episode.turns]
        with put_together(self.actor):
            self._players.refresh(self.actor)
            group = self.at(states, count, [seed] * len(states))[0]
        return [[group for _ in episode.turns] for episode in episodes]

    def _decode(self, states: Sequence[Ids], count: int, seeds: Sequence[Sequence[int]]) -> list[list[Utterance]]:
        trunks, _ = conversations(states)
        longest, most = max(len(trunk) for trunk in trunks), self.sampling.max_tokens
        self._trunks = cache = self._grown(self._trunks, len(trunks), longest)
        at_once = max(1, min(longest, TOKENS_AT_ONCE // len(trunks)))
        self._players.feed(
            self.actor,
            cache,
            len(trunks),
            longest - at_once,
            at_once,
            logits=len(states),
            drawn=len(states) * count,
        )
        self._branches = branches = self._grown(self._branches, len(states) * count, most)
        branches.trunk = cache
        self._players.feed(self.actor, branches, len(states) * count, most - 1, 1)
        branches.trunk = None
        self._trunks, self._branches = (one if within(one.rows, one.tokens) else None for one in (cache, branches))
        utterance = Utterance(np.zeros(most, np.int32), np.zeros(most, np.float32), "a " * most)
        return [[utterance] * count for _ in states]

    def _grown(self, cache: SlotCache | None, rows: int, tokens: int) -> SlotCache:
        before = (cache.rows, cache.tokens) if cache is not None else (0, 0)
        room = room_for(rows, tokens, before)
        return cache if cache is not None and room == before else self._players.cache(self.actor, *room)
