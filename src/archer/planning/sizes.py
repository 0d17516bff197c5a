"""Bytes of weights and of optimizer states."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from archer.config import OptimizerConfig
from archer.devices.quantised import state_bytes
from archer.devices.sharding import own
from archer.models.agent import make_optimizer
from archer.optimize import Optimizer


def given_back(network: nn.Module, part: OptimizerConfig) -> tuple[int, int]:
    """Bytes that AdamW's states take less on the device than in float32, and bytes that they may take on the host."""
    if part.states == "float32":
        return 0, 0
    sizes, _ = _apart(network, part)
    on_device, on_host = (
        sum(column) for column in zip(*(state_bytes(size, part.states) for size in sizes), strict=True)
    )
    return 8 * sum(sizes) - on_device, on_host


def states_of(network: nn.Module, part: OptimizerConfig) -> int:
    """Bytes of all states in float32: AdamW's two numbers for each weight and a count of steps, Muon's one."""
    adamw, muon = _apart(network, part)
    return 8 * sum(adamw) + 4 * len(adamw) + 4 * sum(muon)


def _apart(network: nn.Module, part: OptimizerConfig) -> tuple[list[int], list[int]]:
    """Sizes of the parameters that are AdamW's and Muon's."""
    optimizer: Optimizer = make_optimizer(network, dataclasses.replace(part, states="float32"))
    found = [[own(p).numel() for group in one.param_groups for p in group["params"]] for one in optimizer.parts]
    return found[0], [size for sizes in found[1:] for size in sizes]


def make_states(optimizer: Optimizer) -> None:
    """Let an optimizer take a step, so that it keeps what it will keep."""
    for parameter in optimizer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    for part in optimizer.parts:
        part.step()
    optimizer.clear()


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of all memory behind some tensors; of those in shards, behind this process'."""
    storages = [own(tensor).untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
