"""What turns tokens into logits: Hugging Face's own forward pass or, where it fits, less around the same arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from archer.devices.sharding import copy_of, take_over
from archer.models.actor import Actor
from archer.rollout.attention import reading_slots, register
from archer.rollout.backends import CompiledBackend, Ints, Places, backend_for
from archer.rollout.cache import SlotCache
from archer.rollout.fused import Gpt2Decoder, LlamaDecoder, alive


class Decoder(Protocol):
    """A causal LM over the conversations of a cache."""

    def refresh(self) -> None:
        """Take over the actor's weights as they are now. Nothing tells when they have changed (fused optimizers leave
        no mark), so whoever begins to play or to sample asks for it."""
        ...

    def __call__(self, ids: Ints, places: Places, cache: SlotCache, kept: Ints) -> Tensor:
        """Put N tokens at their places; logits behind the ``kept`` ones, [n, vocabulary]."""
        ...


class AnyDecoder:
    """Hugging Face's own forward pass, in the actor's precision."""

    def __init__(self, actor: Actor) -> None:
        register()
        self._actor = ref(actor)
        own = next(actor.network.parameters()).dtype
        self._copy = None if actor.precision == own else copy_of(actor.network, actor.precision)

    def refresh(self) -> None:
        if self._copy is not None:
            take_over(self._copy, alive(self._actor).network)

    def __call__(self, ids: Ints, places: Places, cache: SlotCache, kept: Ints) -> Tensor:
        actor = alive(self._actor)
        model, device = self._copy or actor.network, actor.device
        cache.places = places
        with reading_slots(model), _as_it_is(actor):
            output = model(
                input_ids=torch.from_numpy(ids).to(device)[None],
                position_ids=torch.from_numpy(places.columns).to(device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.from_numpy(kept).to(device),
                slots=cache,
            )
        logits: Tensor = output.logits[0]
        return logits


def _as_it_is(actor: Actor) -> AbstractContextManager[Any]:
    """Within, what the learner has compiled is not compiled anew for the shapes that playing has."""
    return torch.compiler.set_stance("force_eager") if actor.passes.compiled else nullcontext()


_DECODERS: WeakKeyDictionary[Actor, Decoder] = WeakKeyDictionary()


def decoder_of(actor: Actor) -> Decoder:
    """The decoder that fits the actor best, with the weights that it was last refreshed with."""
    decoder = _DECODERS.get(actor)
    if decoder is None:
        compiled = isinstance(backend_for(actor.device), CompiledBackend)
        fused = [kind for kind in (LlamaDecoder, Gpt2Decoder) if compiled and kind.fits(actor)]
        decoder = _DECODERS[actor] = (fused[0] if fused else AnyDecoder)(actor)
    return decoder


def refresh(actor: Actor) -> None:
    """Let the actor's decoder take over its weights as they are now; a new one has just done so."""
    known = _DECODERS.get(actor)
    if known is None:
        decoder_of(actor)
    else:
        known.refresh()
