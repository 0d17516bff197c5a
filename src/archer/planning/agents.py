"""All networks of a run from the descriptions of its models, with weights that are pretended."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BatchEncoding
from transformers.modeling_layers import GradientCheckpointingLayer

from archer.beginning import PRECISIONS, passes_of
from archer.config import RunConfig
from archer.models.actor import Actor
from archer.models.critic import CausalCritic, Critic
from archer.models.encoder_critic import EncoderCritic
from archer.models.lora import Adapted, Base
from archer.models.passes import attend_by
from archer.models.tiny import tiny_shape

DIFFERENT = 8
"""Layers among which a different one would be: models that have several kinds mix them from the beginning."""


@dataclass(frozen=True)
class Shapes:
    """What the models of a run look like."""

    actor: Any
    """Its transformers configuration."""
    critic: Any
    """That of ``model.critic_model``, None without one."""

    @property
    def layers(self) -> int:
        """Depth of the actor."""
        return int(self.actor.num_hidden_layers)

    @property
    def alike(self) -> bool:
        """Whether a model with fewer layers stands for all of it: they are all the same, and no other model learns."""
        if self.critic is not None:
            return False
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.cut(min(self.layers, DIFFERENT)).actor)
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        return len({tuple(p.shape for p in layer.parameters()) for layer in layers}) == 1

    def cut(self, layers: int) -> Shapes:
        """The same models with so many layers."""
        return Shapes(*(None if shape is None else _cut(shape, layers) for shape in (self.actor, self.critic)))


def read_shapes(config: RunConfig) -> Shapes:
    """From the models' ``config.json``; no weights are read. ValueError for one that cannot be."""
    model, tiny = config.model, config.model.tiny
    if model.actor is None:
        actor = tiny_shape(
            layers=tiny.layers, width=tiny.width, heads=tiny.heads, context=config.rollout.max_tokens,
            vocabulary=tiny.vocabulary,
        )  # fmt: skip
    else:
        actor = _read("model.actor", model.actor)
    return Shapes(actor, None if model.critic_model is None else _read("model.critic_model", model.critic_model))


def _read(setting: str, path: str) -> Any:
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        missing = Path(path).is_dir() and not (Path(path) / "config.json").exists()
        why = "the folder has no config.json" if missing else error
        raise ValueError(f"{setting}: cannot read what the model {path!r} looks like: {why}") from error


def _cut(shape: Any, layers: int) -> Any:
    """A model's configuration with fewer layers, and whatever lists something for each of them as long."""
    shorter = deepcopy(shape)
    before = shape.num_hidden_layers
    for name, value in list(vars(shorter).items()):
        if isinstance(value, list) and len(value) == before:
            setattr(shorter, name, value[:layers])
    shorter.num_hidden_layers = layers
    return shorter


class Words:
    """Stands for a tokenizer that need not be there: a word is a token."""

    eos_token_id = bos_token_id = pad_token_id = 1  # games are told in zeros: nothing in them ends an utterance early
    truncation_side = "right"

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        return self._vocabulary

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "a " * len(ids)

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> BatchEncoding:
        longest = min(max_length, max(len(text.split()) for text in texts))
        ids = torch.zeros(len(texts), max(1, longest), dtype=torch.long)
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def make_actor(config: RunConfig, shapes: Shapes) -> Actor:
    """The actor before any training."""
    model = config.model
    actor = _actor(config, shapes.actor, PRECISIONS[model.precision] if model.lora.rank else torch.float32)
    if model.lora.rank:
        actor = Actor(Adapted(Base(actor.model, model.lora)), actor.tokenizer, actor.passes)
    return actor


def make_critic(config: RunConfig, shapes: Shapes, actor: Actor) -> Critic | None:
    """The critic beside it, None where the method has none."""
    if config.critic.method == "none":
        return None
    if config.model.critic == "causal":
        return CausalCritic.from_actor(actor if shapes.critic is None else _actor(config, shapes.critic, torch.float32))
    if shapes.critic is None:
        critic = EncoderCritic.build(None, actor, config.model.tiny, seed=0)
    else:
        words = Words(shapes.critic.vocab_size)
        critic = EncoderCritic(AutoModel.from_config(shapes.critic, dtype=torch.float32), words, words, actor.passes)
    attend_by(critic.encoder, config.model.attention)
    return critic


def _actor(config: RunConfig, shape: Any, dtype: torch.dtype) -> Actor:
    model = AutoModelForCausalLM.from_config(shape, dtype=dtype)
    attend_by(model, config.model.attention)
    return Actor(model, Words(shape.vocab_size), passes_of(config.model))
