"""Decoders whose arithmetic on a processor is written out: matrix products, and compiled kernels between them.

A small model spends most of a step on what stands around its matrix products. Here projections are fused, and norms,
rotations and activations take one call each. What is carried from layer to layer stays float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar
from weakref import ref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from archer.models.actor import Actor
from archer.rollout.backends import CompiledBackend, Floats, Ints, Places, Scoring, Store, array_of
from archer.rollout.cache import SlotCache

Affine = tuple[Tensor, Tensor | None]
"""Weight [out, in] and bias [out] of a matrix product."""
Norm = tuple[Floats, Floats | None]
"""Weight and bias of a norm, [d]."""


class FusedDecoder(ABC):
    """Pre-norm blocks of attention and a feed-forward part; what else an architecture does, its subclass says."""

    kinds: ClassVar[tuple[str, ...]]
    """What transformers calls the models of this architecture."""

    def __init__(self, actor: Actor) -> None:
        self._actor = ref(actor)
        self.dtype = actor.precision
        config = actor.network.config
        self.heads = config.num_attention_heads
        self.key_heads = getattr(config, "num_key_value_heads", None) or self.heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.refresh()

    @classmethod
    def fits(cls, actor: Actor) -> bool:
        """Whether the model is of this architecture, with nothing added."""
        return (
            actor.network.config.model_type in cls.kinds
            and actor.precision in (torch.float32, torch.bfloat16)
            and not any("lora" in name for name, _ in actor.network.named_parameters())
        )

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the actor's weights as they are now."""
        model = self.model
        self.output = model.get_output_embeddings().weight.detach().to(self.dtype)
        self.final_norm, self.layers = self._read(model.base_model)

    @property
    def model(self) -> Any:
        return alive(self._actor).network

    def __call__(self, ids: Ints, places: Places, cache: SlotCache, kept: Ints) -> Tensor:
        if not isinstance(cache.backend, CompiledBackend):
            raise TypeError("these kernels know one layout of keys only: the compiled backend's")
        cache.places = places
        x = self._embed(ids, places)
        tokens = len(ids)
        hidden = torch.empty(x.shape, dtype=self.dtype)
        queries = torch.empty(tokens, self.heads, self.width)
        like = torch.empty(0, dtype=self.dtype)
        scoring = Scoring(self.width**-0.5)
        for number, layer in enumerate(self.layers):
            store = cache.layers[number].room(self.key_heads, self.width, like)
            self._norm(x, layer["norm"], hidden)
            self._place(linear(hidden, *layer["project"]), places, queries, store)
            seen = cache.attend(number, queries, scoring)
            x += linear(seen.reshape(tokens, -1).to(self.dtype), *layer["out"])
            self._norm(x, layer["second_norm"], hidden)
            x += linear(self._activate(linear(hidden, *layer["up"])), *layer["down"])
        last = x[torch.from_numpy(kept)]
        chosen = torch.empty(last.shape, dtype=self.dtype)
        self._norm(last, self.final_norm, chosen)
        return linear(chosen, self.output)

    @abstractmethod
    def _read(self, base: Any) -> tuple[Norm, list[dict[str, Any]]]:
        """The last norm; and of every layer ``norm``, ``project`` (queries, keys, values), ``out``, ``second_norm``,
        ``up`` and ``down``."""

    @abstractmethod
    def _embed(self, ids: Ints, places: Places) -> Tensor:
        """What the first layer is given, float32 [N, d]."""

    @abstractmethod
    def _norm(self, x: Tensor, norm: Norm, out: Tensor) -> None:
        """``x`` normalised, into ``out``."""

    @abstractmethod
    def _place(self, projected: Tensor, places: Places, queries: Tensor, store: Store) -> None:
        """Split what a layer projects into ``queries``, and keys and values for the ``store``."""

    @abstractmethod
    def _activate(self, raised: Tensor) -> Tensor:
        """Between the two products of the feed-forward part."""


def alive(actor: ref[Actor]) -> Actor:
    """The actor, which its decoder must not keep from being forgotten."""
    found = actor()
    assert found is not None, "an engine holds it"
    return found


def values(weight: Tensor) -> Floats:
    """A copy of a small weight; memory that an array looks at could not be given back, as that of shards is."""
    found: Floats = weight.detach().float().clone().numpy()
    return found


class LlamaDecoder(FusedDecoder):
    """Llama and its like: root mean square norms, rotated positions, gated feed-forward parts."""

    kinds = ("llama", "mistral", "qwen2")

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self.epsilon = np.float32(actor.network.config.rms_norm_eps)
        nothing = np.zeros((0, self.width // 2), np.float32)
        self._turns = nothing, nothing

    @classmethod
    def fits(cls, actor: Actor) -> bool:
        config = actor.network.config
        rope = getattr(config, "rope_parameters", None) or {}
        return (
            super().fits(actor)
            and config.hidden_act == "silu"
            and not getattr(config, "sliding_window", None)
            and rope.get("rope_type", "default") in ("default", "linear", "llama3")
        )

    def _read(self, base: Any) -> tuple[Norm, list[dict[str, Any]]]:
        def joined(*layers: Any) -> Affine:
            weight, biased = torch.cat([layer.weight for layer in layers]), layers[0].bias is not None
            bias = torch.cat([layer.bias for layer in layers]).to(self.dtype) if biased else None
            return weight.to(self.dtype), bias

        def norm(layer: Any) -> Norm:
            return values(layer.weight), None

        self.embeddings = base.embed_tokens.weight.detach()
        return norm(base.norm), [
            {
                "norm": norm(layer.input_layernorm),
                "project": joined(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                "out": joined(layer.self_attn.o_proj),
                "second_norm": norm(layer.post_attention_layernorm),
                "up": joined(layer.mlp.gate_proj, layer.mlp.up_proj),
                "down": joined(layer.mlp.down_proj),
            }
            for layer in base.layers
        ]

    @torch.no_grad()
    def turns(self, positions: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Cosine and sine of every position's rotation, for at least so many, [., width / 2]."""
        if len(self._turns[0]) < positions:
            found = self.model.base_model.rotary_emb(torch.zeros(1), torch.arange(2 * positions)[None])
            cosine, sine = (turn[0, :, : self.width // 2].contiguous().numpy() for turn in found)
            self._turns = cosine, sine
        return self._turns

    def _embed(self, ids: Ints, places: Places) -> Tensor:
        return embedding(torch.from_numpy(ids), self.embeddings).float()

    def _norm(self, x: Tensor, norm: Norm, out: Tensor) -> None:
        from archer.rollout.fused_kernels import rms_norm

        rms_norm(x.numpy(), norm[0], self.epsilon, array_of(out))

    def _place(self, projected: Tensor, places: Places, queries: Tensor, store: Store) -> None:
        from archer.rollout.fused_kernels import rotate_and_store

        rotate_and_store(
            array_of(projected), *self.turns(int(places.columns.max()) + 1), places.columns,
            places.rows, places.own_columns, queries.numpy(), array_of(store.keys), array_of(store.values),
        )  # fmt: skip

    def _activate(self, raised: Tensor) -> Tensor:
        from archer.rollout.fused_kernels import gate

        out = raised.new_empty(len(raised), raised.shape[1] // 2)
        gate(array_of(raised), array_of(out))
        return out


class Gpt2Decoder(FusedDecoder):
    """GPT-2: layer norms, learned positions, matrices stored the other way round."""

    kinds = ("gpt2",)

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self.epsilon = np.float32(actor.network.config.layer_norm_epsilon)

    @classmethod
    def fits(cls, actor: Actor) -> bool:
        config = actor.network.config
        return (
            super().fits(actor)
            and config.activation_function == "gelu_new"
            and config.scale_attn_weights
            and not config.scale_attn_by_inverse_layer_idx
        )

    def _read(self, base: Any) -> tuple[Norm, list[dict[str, Any]]]:
        def turned(layer: Any) -> Affine:  # in float32 no copy is made
            weight = layer.weight.detach().T
            if self.dtype != weight.dtype:
                weight = weight.to(self.dtype).contiguous()
            return weight, layer.bias.detach().to(self.dtype)

        def norm(layer: Any) -> Norm:
            return values(layer.weight), values(layer.bias)

        self.embeddings, self.positions = base.wte.weight.detach(), base.wpe.weight.detach()
        return norm(base.ln_f), [
            {
                "norm": norm(layer.ln_1),
                "project": turned(layer.attn.c_attn),
                "out": turned(layer.attn.c_proj),
                "second_norm": norm(layer.ln_2),
                "up": turned(layer.mlp.c_fc),
                "down": turned(layer.mlp.c_proj),
            }
            for layer in base.h
        ]

    def _embed(self, ids: Ints, places: Places) -> Tensor:
        words = embedding(torch.from_numpy(ids), self.embeddings)
        return (words + embedding(torch.from_numpy(places.columns), self.positions)).float()

    def _norm(self, x: Tensor, norm: Norm, out: Tensor) -> None:
        from archer.rollout.fused_kernels import layer_norm

        layer_norm(x.numpy(), *norm, self.epsilon, array_of(out))

    def _place(self, projected: Tensor, places: Places, queries: Tensor, store: Store) -> None:
        from archer.rollout.kernels import store as put

        asked, keys, values = projected.view(len(projected), 3, self.heads, self.width).unbind(1)
        queries.copy_(asked)
        put(
            array_of(store.keys), array_of(store.values), array_of(keys), array_of(values),
            places.rows, places.own_columns,
        )  # fmt: skip

    def _activate(self, raised: Tensor) -> Tensor:
        from archer.rollout.fused_kernels import gelu

        gelu(array_of(raised))
        return raised
