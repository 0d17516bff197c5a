"""What this machine can do at best, and what each phase must do at least: floating-point operations and bytes moved.

Counted are matrix products and attention (a multiplication and an addition are two operations) and, for decoding, the
reading of weights and of cached keys and values. All else is arrangement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from archer.benchmarks.measure import timed
from archer.models.actor import Actor


@dataclass(frozen=True)
class Ceilings:
    """Measured rates of a device."""

    device: str
    threads: int
    flops: dict[str, float]
    """Operations per second of a large matrix product, by type."""
    bandwidth: float
    """Bytes per second, reading and writing, of a copy that no cache can hold."""


@dataclass(frozen=True)
class Work:
    """What a phase must do at least."""

    flops: float
    bytes: float

    def seconds(self, ceilings: Ceilings, dtype: torch.dtype) -> float:
        """The least time it can take: its operations or its bytes, whichever takes longer."""
        return max(self.flops / ceilings.flops[type_name(dtype)], self.bytes / ceilings.bandwidth)

    def bound(self, ceilings: Ceilings, dtype: torch.dtype) -> str:
        """Which of the two it is."""
        return (
            "arithmetic"
            if self.flops / ceilings.flops[type_name(dtype)] > self.bytes / ceilings.bandwidth
            else "memory"
        )


def measure_ceilings() -> Ceilings:
    """Matrix rates and memory bandwidth, medians of several seconds' work."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        rates[type_name(dtype)] = 2 * 2048**3 / _median(partial(torch.matmul, a, b))
    source, target = (torch.zeros(1 << 26, dtype=torch.uint8) for _ in range(2))
    bandwidth = 2 * len(source) / _median(lambda: target.copy_(source))
    return Ceilings("processor", torch.get_num_threads(), rates, bandwidth)


def pass_flops(actor: Actor, tokens: float, context: float, predicted: float) -> float:
    """Operations of a forward pass over ``tokens`` tokens that see ``context`` tokens each on average.

    predicted: how many of them the output layer is applied to.
    """
    config = actor.model.config
    attention = 4 * config.num_hidden_layers * config.hidden_size * context
    head = actor.model.get_output_embeddings().weight.numel()
    return float(tokens * (2 * hidden_parameters(actor) + attention) + 2 * predicted * head)


def hidden_parameters(actor: Actor) -> int:
    """Weights that every token is multiplied with: matrices that are no embeddings."""
    outer = {id(actor.model.get_input_embeddings().weight), id(actor.model.get_output_embeddings().weight)}
    positions = getattr(actor.model.base_model, "wpe", None)
    outer |= {id(positions.weight)} if positions is not None else set()
    return sum(p.numel() for p in actor.model.parameters() if p.ndim == 2 and id(p) not in outer)


def decode_work(actor: Actor, steps: int, tokens: int, context: float, said: int) -> Work:
    """Playing: ``tokens`` tokens go through the model in ``steps`` passes, ``said`` of them are sampled.

    Every pass reads all weights, every token the keys and values of its ``context``.
    """
    config = actor.model.config
    size = next(actor.model.parameters()).element_size()
    head = actor.model.get_output_embeddings().weight.numel()
    grouped = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    kept = 2 * config.num_hidden_layers * config.hidden_size * grouped / config.num_attention_heads * size
    return Work(
        pass_flops(actor, tokens, context, said),
        steps * (hidden_parameters(actor) + head) * size + tokens * context * kept,
    )


def type_name(dtype: torch.dtype) -> str:
    """`float32`, `bfloat16`, ..."""
    return str(dtype).removeprefix("torch.")


def _median(call: Callable[[], Any], repeats: int = 7) -> float:
    """Median seconds of a call, the first one left out."""
    return float(np.median([timed(call)[1] for _ in range(repeats + 1)][1:]))
