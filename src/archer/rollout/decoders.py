"""What turns tokens into logits: Hugging Face's own forward pass or, where it fits, less around the same arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from archer.models.actor import Actor
from archer.rollout.attention import reading_slots, register
from archer.rollout.backends import CompiledBackend, Ints, Places, Scoring, array_of, backend_for
from archer.rollout.cache import SlotCache


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
        own = next(actor.model.parameters()).dtype
        self._copy = None if actor.precision == own else deepcopy(actor.model).to(actor.precision)

    def refresh(self) -> None:
        if self._copy is not None:
            self._copy.load_state_dict(_alive(self._actor).model.state_dict())

    def __call__(self, ids: Ints, places: Places, cache: SlotCache, kept: Ints) -> Tensor:
        actor = _alive(self._actor)
        model, device = self._copy or actor.model, actor.device
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


class LlamaDecoder:
    """Llama's arithmetic on a processor: a handful of matrix products a layer, and compiled kernels between them.

    A small model spends most of a step on what stands around its matrix products; here projections are fused and
    norms, rotations and gates take one call each. What is carried from layer to layer stays float32.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = ref(actor)
        self.dtype = actor.precision
        config = actor.model.config
        self.heads = config.num_attention_heads
        self.key_heads = config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.epsilon = np.float32(config.rms_norm_eps)
        nothing = np.zeros((0, self.width // 2), np.float32)
        self._turns = nothing, nothing
        self.refresh()

    @staticmethod
    def fits(actor: Actor) -> bool:
        """Whether the model is of this architecture, with nothing added."""
        config = actor.model.config
        rope = getattr(config, "rope_parameters", None) or {}
        return (
            config.model_type in ("llama", "mistral", "qwen2")
            and config.hidden_act == "silu"
            and not getattr(config, "sliding_window", None)
            and rope.get("rope_type", "default") in ("default", "linear", "llama3")
            and actor.precision in (torch.float32, torch.bfloat16)
            and not any("lora" in name for name, _ in actor.model.named_parameters())
        )

    @torch.no_grad()
    def refresh(self) -> None:
        model, dtype = _alive(self._actor).model, self.dtype
        base = model.base_model

        def joined(*layers: Any) -> tuple[Tensor, Tensor | None]:
            weight = torch.cat([layer.weight for layer in layers]).to(dtype)
            return weight, None if layers[0].bias is None else torch.cat([layer.bias for layer in layers]).to(dtype)

        self.embeddings = base.embed_tokens.weight.detach()
        self.output = model.get_output_embeddings().weight.detach().to(dtype)
        self.norm = base.norm.weight.detach().float().numpy()
        self.layers = [
            {
                "norm": layer.input_layernorm.weight.detach().float().numpy(),
                "project": joined(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                "out": joined(layer.self_attn.o_proj),
                "second_norm": layer.post_attention_layernorm.weight.detach().float().numpy(),
                "up": joined(layer.mlp.gate_proj, layer.mlp.up_proj),
                "down": joined(layer.mlp.down_proj),
            }
            for layer in base.layers
        ]

    @torch.no_grad()
    def turns(self, positions: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Cosine and sine of every position's rotation, for at least so many, [., width / 2]."""
        if len(self._turns[0]) < positions:
            rotary = _alive(self._actor).model.base_model.rotary_emb
            found = rotary(torch.zeros(1), torch.arange(2 * positions)[None])
            cosine, sine = (turn[0, :, : self.width // 2].contiguous().numpy() for turn in found)
            self._turns = cosine, sine
        return self._turns

    def __call__(self, ids: Ints, places: Places, cache: SlotCache, kept: Ints) -> Tensor:
        from archer.rollout.llama_kernels import gate, rms_norm, rotate_and_store

        if not isinstance(cache.backend, CompiledBackend):
            raise TypeError("these kernels know one layout of keys only: the compiled backend's")
        dtype, tokens = self.dtype, len(ids)
        cosine, sine = self.turns(int(places.columns.max()) + 1)
        cache.places = places
        x = embedding(torch.from_numpy(ids), self.embeddings).float()
        hidden = torch.empty(tokens, x.shape[1], dtype=dtype)
        queries = torch.empty(tokens, self.heads, self.width)
        like = torch.empty(0, dtype=dtype)
        scoring = Scoring(self.width**-0.5)
        for number, layer in enumerate(self.layers):
            store = cache.layers[number].room(self.key_heads, self.width, like)
            rms_norm(x.numpy(), layer["norm"], self.epsilon, array_of(hidden))
            projected = linear(hidden, *layer["project"])
            rotate_and_store(
                array_of(projected), cosine, sine, places.columns, places.rows, places.own_columns,
                queries.numpy(), array_of(store.keys), array_of(store.values),
            )  # fmt: skip
            seen = cache.attend(number, queries, scoring)
            x += linear(seen.reshape(tokens, -1).to(dtype), *layer["out"])
            rms_norm(x.numpy(), layer["second_norm"], self.epsilon, array_of(hidden))
            both = linear(hidden, *layer["up"])
            gated = torch.empty(tokens, both.shape[1] // 2, dtype=dtype)
            gate(array_of(both), array_of(gated))
            x += linear(gated, *layer["down"])
        last = x[torch.from_numpy(kept)]
        rms_norm(last.numpy(), self.norm, self.epsilon, array_of(chosen := torch.empty(last.shape, dtype=dtype)))
        return linear(chosen, self.output)


def _as_it_is(actor: Actor) -> AbstractContextManager[Any]:
    """Within, what the learner has compiled is not compiled anew for the shapes that playing has."""
    return torch.compiler.set_stance("force_eager") if actor.passes.compiled else nullcontext()


_DECODERS: WeakKeyDictionary[Actor, Decoder] = WeakKeyDictionary()


def decoder_of(actor: Actor) -> Decoder:
    """The decoder that fits the actor best, with the weights that it was last refreshed with."""
    decoder = _DECODERS.get(actor)
    if decoder is None:
        fast = isinstance(backend_for(actor.device), CompiledBackend) and LlamaDecoder.fits(actor)
        decoder = _DECODERS[actor] = LlamaDecoder(actor) if fast else AnyDecoder(actor)
    return decoder


def refresh(actor: Actor) -> None:
    """Let the actor's decoder take over its weights as they are now; a new one has just done so."""
    known = _DECODERS.get(actor)
    if known is None:
        decoder_of(actor)
    else:
        known.refresh()


def _alive(actor: ref[Actor]) -> Actor:
    """The actor, which its decoder must not keep from being forgotten."""
    found = actor()
    assert found is not None, "an engine holds it"
    return found
