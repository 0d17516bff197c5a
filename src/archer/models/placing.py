"""Where networks lie: whole in every process, or in shards."""

from __future__ import annotations

from torch import nn
from torch.utils._pytree import register_dataclass
from transformers.modeling_layers import GradientCheckpointingLayer

from archer.devices.sharding import shard, sharded_parts
from archer.models.actor import Actor
from archer.models.critic import Values
from archer.models.lora import Adapted

register_dataclass(Values)  # so that the way back through a critic in shards is found from what it returns


def cut(network: nn.Module) -> None:
    """Cut a network of the agent into shards, unless it is; where it is adapters, the frozen model beneath them.

    Adapters stay whole, and so does what a frozen model has around its layers.
    """
    if sharded_parts(network):
        return
    adapted = next((part for part in network.modules() if isinstance(part, Adapted)), None)
    if adapted is None:
        methods = ("hidden", "utterance_logprobs", "answer_logprobs") if isinstance(network, Actor) else ()
        shard(network, _layers(network), methods=methods)
        return
    decoder = adapted.base.model.base_model
    layers = _layers(decoder)
    within = {id(p) for layer in layers for p in layer.parameters() if not p.requires_grad}
    shard(decoder, layers, whole=[p for p in decoder.parameters() if id(p) not in within])


def _layers(network: nn.Module) -> list[nn.Module]:
    """The blocks that make up nearly all of a network."""
    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
