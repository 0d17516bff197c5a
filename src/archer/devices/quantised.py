"""Optimizer states in eight bits (Dettmers et al. 2021), through bitsandbytes: a quarter of the room, on the device or,
paged, beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from archer.extras import need

FEWEST = 4096
"""Parameters with fewer numbers keep states in float32: they are where rounding hurts and nothing is saved."""
BLOCK = 256
"""Numbers that share one scale in float32."""


def adamw(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float, states: str) -> Any:
    """AdamW whose ``states`` are `8-bit` or `paged-8-bit`."""
    optim = need("bitsandbytes", "bnb").optim
    kind = optim.PagedAdamW8bit if states == "paged-8-bit" else optim.AdamW8bit
    return kind(parameters, lr=lr, weight_decay=weight_decay, min_8bit_size=FEWEST)


def check_states(states: Iterable[str], device: str) -> None:
    """ValueError where ``device`` cannot keep such states, found out by a step with nothing in it."""
    for kind in set(states) - {"float32"}:
        parameter = nn.Parameter(torch.zeros(FEWEST, device=device))
        optimizer = adamw([parameter], lr=1e-3, weight_decay=0.0, states=kind)
        parameter.grad = torch.zeros_like(parameter)
        try:
            optimizer.step()
        except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
            raise ValueError(
                f"states={kind!r}: bitsandbytes cannot take a step on {device!r} ({error}); set states=float32"
            ) from error


def is_quantised(optimizer: torch.optim.Optimizer) -> bool:
    """Whether bitsandbytes made it."""
    return type(optimizer).__module__.partition(".")[0] == "bitsandbytes"


def restore(optimizer: Any, states: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Put saved ``states``, by number of the parameter, into memory of the optimizer's own making: what was paged stays
    paged, and the maps from eight bits to numbers stay shared."""
    number = 0
    for group_index, group in enumerate(optimizer.param_groups):
        for index, parameter in enumerate(group["params"]):
            if number in states:
                optimizer.init_state(group, parameter, group_index, index)
                own = optimizer.state[parameter]
                for name, value in states[number].items():
                    if name == "step":
                        own[name] = int(value)
                    else:
                        own[name].copy_(value)
            number += 1


PAGED_FROM = 100_000
"""Numbers from which on bitsandbytes puts a state into memory that moves."""


def state_bytes(size: int, states: str) -> tuple[int, int]:
    """Bytes that both states of a parameter of ``size`` numbers take on the device, and on the host if need be."""
    if states == "float32" or size < FEWEST:
        return 8 * size, 0
    scales = 8 * -(-size // BLOCK)
    return (scales, 2 * size) if states == "paged-8-bit" and size >= PAGED_FROM else (2 * size + scales, 0)
