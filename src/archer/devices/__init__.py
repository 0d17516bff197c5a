"""Several processes that learn as one, each on a device of its own.

All of them draw the same batches and hold the same games; each does its share of the work, and what has been found is
put together. In one process everything here is as if it were not there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from archer.launch import EndedElsewhere, launched

T = TypeVar("T")
R = TypeVar("R")

WAIT = timedelta(minutes=30)
"""How long a process waits for the others: longer than one of them plays its games or writes a checkpoint alone. One
that ends is noticed at once."""
AT_ONCE = 1 << 24
"""Elements of gradients that are sent together."""
NOBODY = "fake"
"""The connection to processes that are not there."""

_CALLS = itertools.count()
_ASIDE: dict[str, Any] = {}
"""The connection for games, which may be played in a thread of their own while the learners talk to each other."""


def check(device: str) -> None:
    """Raise ValueError for a device that torch does not have on this machine; where several processes were launched,
    for that of this one."""
    own = f"{device}:{_local_rank()}" if device == "cuda" and launched() > 1 else device
    try:
        torch.ones(1, device=own).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # what torch raises differs by device
        why = str(error).splitlines()[0].partition(". ")[0]
        raise ValueError(f"device={own!r} cannot be used here ({why}); set device=cpu") from None


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Within, the launched processes work as one, and the device "cuda" is this process' own.

    Where one fails, the others raise EndedElsewhere.
    """
    if launched() == 1:
        yield
        return
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(_local_rank())
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    # What an earlier call has left in the store must not be taken for this one's.
    store = PrefixStore(f"archer {next(_CALLS)}", _launchers_store())
    rank, world = int(os.environ["RANK"]), launched()
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=WAIT)
    try:
        _ASIDE["games"] = dist.new_group(backend="gloo", timeout=WAIT)
        yield
        wait()
    except Exception as error:
        if not _says_that_others_are_gone(error):
            store.set("failed", str(rank))  # before the connections close, which is what the others notice
            raise
        line = str(error).partition(". ")[0]
        raise EndedElsewhere("" if _told(store) else f"another process of this run is gone ({line})") from error
    finally:
        _ASIDE.clear()
        dist.destroy_process_group()


def _local_rank() -> int:
    """Which of this machine's processes this one is, and of its devices the own."""
    return int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))


@contextmanager
def pretended(processes: int) -> Iterator[None]:
    """Within, this process works as the first of so many, where the others are not.

    Nothing that is sent goes anywhere, and what all have is as often what this one has: for whoever wants to know what
    the work takes, not what it gives.
    """
    if processes == 1:
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore  # which torch's own account of memory works with

    dist.init_process_group(NOBODY, store=FakeStore(), rank=0, world_size=processes)
    try:
        yield
    finally:
        dist.destroy_process_group()


@cache
def _launchers_store() -> Any:
    """Where the launched processes find each other."""
    store, *_ = next(iter(rendezvous("env://", timeout=WAIT)))
    return store


def _told(store: PrefixStore) -> bool:
    """Whether another process has said, or now says, why the run ends."""
    try:
        return bool(store.check(["failed"])) or store.add("told", 1) > 1
    except dist.DistError:  # it went with the process that kept it
        return False


def _says_that_others_are_gone(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def count() -> int:
    """Processes that have been joined; 1 where none have."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is the process that writes; the only one is."""
    return number() == 0


def wait() -> None:
    """Until all processes have come here."""
    if count() > 1:
        dist.barrier()


def told_by_first(find: Callable[[], T]) -> T:
    """What the first process finds, known to all; the others do not look."""
    if count() == 1:
        return find()
    box: list[Any] = [find() if first() else None]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    found: T = box[0]
    return found


def gather(own: T, *, aside: bool = False) -> list[T]:
    """What every process has, in their order.

    aside: over a connection of its own, as a thread beside the learner's must.
    """
    if count() == 1 or dist.get_backend() == NOBODY:
        return [own] * count()
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, own, _ASIDE["games"] if aside else None)
    return found


def divide(parts: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """``work`` on every part, each done by one process and known to all.

    All call it equally often, so that what they do together inside it (networks in shards) goes in step: who has no
    part left does one of its own again.
    """
    if count() == 1:
        return [work(part) for part in parts]
    own = own_parts(parts)
    found = [work(part) for part, _ in own]
    gathered = gather([result for result, (_, counts) in zip(found, own, strict=True) if counts])
    return [gathered[index % count()][index // count()] for index in range(len(parts))]


def own_parts(parts: Sequence[T]) -> list[tuple[T, bool]]:
    """This process' share of the parts of something, equally many for all; with False those that stand in for none, and
    do not count."""
    own = [(part, True) for part in parts[number() :: count()]]
    missing = -(-len(parts) // count()) - len(own)
    return own + [(part, False) for part in parts[:1] for _ in range(missing)]


def enough_for_all(pieces: int) -> int:
    """``pieces``, or the next higher number that gives all processes equally many."""
    return -(-pieces // count()) * count()


def summed(numbers: Sequence[float]) -> Sequence[float]:
    """Sums over all processes, number by number."""
    if count() == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(total)
    return [float(value) for value in total]


def merged(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Sums over all processes, name by name; not all need to have all names."""
    if count() == 1:
        return metrics
    total: dict[str, float] = {}
    for found in gather(dict(metrics)):
        for name, value in found.items():
            total[name] = total.get(name, 0.0) + value
    return total


def add_up(gradients: Sequence[Tensor]) -> None:
    """Put the sum over all processes in the place of each gradient; many are sent together."""
    if count() == 1:
        return
    parts: list[list[Tensor]] = [[]]
    for gradient in gradients:
        if parts[-1] and sum(other.numel() for other in parts[-1]) + gradient.numel() > AT_ONCE:
            parts.append([])
        parts[-1].append(gradient)
    for part in filter(None, parts):
        sent = torch.cat([gradient.reshape(-1) for gradient in part])
        dist.all_reduce(sent)
        for gradient, total in zip(part, torch.split(sent, [gradient.numel() for gradient in part]), strict=True):
            gradient.copy_(total.view_as(gradient))


def check_alike(network: nn.Module, *more: object) -> None:
    """Raise RuntimeError unless all processes have the same network, and ``more`` that is the same."""
    if count() == 1:
        return
    own = [float(parameter.detach().double().sum()) for parameter in network.parameters()], more
    if any(found != own for found in gather(own)):
        raise RuntimeError(
            "the processes do not begin with the same actor and demonstrations; are the files, the packages and their "
            "versions the same on all machines?"
        )
