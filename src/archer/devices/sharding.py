"""Networks in shards: each process keeps a part of every weight, and all of a layer only while it is passed (FSDP2)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from archer import devices

Network = TypeVar("Network", bound=nn.Module)

warnings.filterwarnings("ignore", message=".*returned a view tensor.*")  # nothing is done to it in place

_BLANKS: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
"""Each module of a network in shards as it was, without weights: in shards it cannot be copied."""


def shard(
    network: nn.Module,
    layers: Sequence[nn.Module],
    *,
    methods: Sequence[str] = (),
    whole: Iterable[nn.Parameter] = (),
) -> None:
    """Cut the weights of a network into one shard per process.

    layers: modules that are put together and away one after another as they are passed. methods: what besides
        ``forward`` the network is passed through. whole: weights that stay whole in every process.
    """
    blanks: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in network.parameters()}
    _BLANKS.update(zip(network.modules(), deepcopy(network, blanks).modules(), strict=True))
    mesh = init_device_mesh(next(network.parameters()).device.type, (devices.count(),))
    ignored = set(whole)
    for module in (*layers, network):
        part = fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=ignored)
        # The sum of all processes' gradients, and no mean: the parts of a batch have weights that see to that.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    assert isinstance(network, FSDPModule)
    for method in methods:
        register_fsdp_forward_method(network, method)
    # What stands around the layers is passed by several methods whose ways back cross: `put_away` ends them all.
    network.set_reshard_after_backward(False, recurse=False)
    network._get_fsdp_state()._lazy_init()  # the root is this, whichever module is passed first


def sharded_parts(network: nn.Module) -> list[FSDPModule]:
    """The modules of a network in shards, and of what it stands on (``beneath``); none where it is whole."""
    found: list[FSDPModule] = []
    for module in network.modules():
        if isinstance(module, FSDPModule):
            found.append(module)
        if isinstance(below := getattr(module, "beneath", None), nn.Module):
            found += sharded_parts(below)
    return found


def put_away(network: nn.Module) -> None:
    """Keep this process' shards only; the network's weights are then those that its optimizer knows."""
    for part in sharded_parts(network):
        part.reshard()


@contextmanager
def put_together(*networks: nn.Module) -> Iterator[None]:
    """Within, networks are whole in every process, which then needs no other to pass through them."""
    parts = [part for network in networks for part in sharded_parts(network)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


def full(tensor: Tensor) -> Tensor:
    """All of a tensor, for which all processes must ask together where it is in shards."""
    whole: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach()


def own(tensor: Tensor) -> Tensor:
    """This process' part of a tensor; all of one that is whole."""
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def cut_like(whole: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, in shards as ``other`` is; as it is where that is whole too."""
    if not isinstance(other, DTensor) or other.shape != whole.shape:
        return whole
    return distribute_tensor(whole.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def copy_of(network: Network, dtype: torch.dtype | None = None) -> Network:
    """A copy of a network or a module of one; whole where that is in shards. With ``dtype`` in another precision, of
    which no more is ever there than the copy and one weight."""
    blank = _BLANKS.get(network)
    if blank is None and dtype is None:
        return deepcopy(network)
    blank = network if blank is None else blank
    memo: dict[int, Any] = {
        id(empty): nn.Parameter(full(weight).to(dtype or weight.dtype, copy=True), weight.requires_grad)
        for empty, weight in zip(blank.parameters(), network.parameters(), strict=True)
    }
    copy: Any = deepcopy(blank, memo)
    return copy if dtype is None else copy.to(dtype)  # type: ignore[no-any-return]


@torch.no_grad()
def take_over(target: nn.Module, source: nn.Module) -> None:
    """Give a network another's weights; either of them may be in shards."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        alike = isinstance(mine, DTensor) and isinstance(theirs, DTensor)
        mine.copy_(theirs if alike else cut_like(full(theirs), mine))


def full_state(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name, whole; what is in shards goes to the memory of the first process' CPU, and to no
    other's."""
    state: dict[str, Tensor] = {}
    gathered: dict[int, Tensor] = {}  # one for names that share a weight
    for name, tensor in network.state_dict(keep_vars=True).items():
        if not isinstance(tensor, DTensor):
            state[name] = tensor.detach()
            continue
        if id(tensor) not in gathered:
            whole = full(tensor)
            gathered[id(tensor)] = whole.cpu() if devices.first() else whole.new_empty(0)
        state[name] = gathered[id(tensor)]
    return state
