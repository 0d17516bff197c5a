"""Tensors with shapes and no numbers, and an account of the bytes that they would take."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

FEW = 4096
"""Numbers up to which tensors that were given stay real: places in a batch, which decide on shapes."""
_ASKED = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default}
"""Operations that ask for a number."""
_FILLING = {
    torch.ops.aten.uniform_.default,
    torch.ops.aten.normal_.default,
    torch.ops.aten.fill_.Scalar,
    torch.ops.aten.zero_.default,
}
"""Operations that do nothing but put numbers into memory."""
_PICKING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._unsafe_index.Tensor,
}
"""Operations whose second argument says where."""
_SENDING = {
    torch.ops.c10d._allgather_base_.default,
    torch.ops.c10d._reduce_scatter_base_.default,
    torch.ops._c10d_functional.all_gather_into_tensor.default,
}
"""Operations by which processes put together what each has a part of, or the other way round."""


@dataclass
class Trace:
    """Bytes after every operation, and where a model of another depth would be at the same."""

    live: list[int]
    _back: list[bool] = field(default_factory=lambda: [False])
    _cuts: list[int] = field(default_factory=list)
    _left_out: set[int] = field(default_factory=set)
    _models: list[list[int]] = field(default_factory=list)
    """Of every model that is being passed through, where it began and where each of its layers did."""
    _ended: int = 0
    _again: list[int] = field(default_factory=list)
    """Where layers began that were computed again on the way back: without their own pass, so the first part of each
    tells of it."""
    _firsts: set[nn.Module] = field(default_factory=set)
    _within: bool = False

    def note(self, live: int) -> None:
        """After an operation."""
        self.live.append(live)
        self._back.append(_goes_back())

    def enter(self, module: nn.Module, _: Any) -> None:
        """Before a module's pass."""
        if _goes_back():
            if module in self._firsts:
                self._again.append(len(self.live))
            return
        if self._within:
            self._firsts.add(module)
        self._within = isinstance(module, GradientCheckpointingLayer)
        if isinstance(module, PreTrainedModel):
            self._models.append([len(self.live)])
        elif isinstance(module, GradientCheckpointingLayer) and self._models:
            self._models[-1].append(len(self.live))

    def leave(self, module: nn.Module, _: Any, __: Any) -> None:
        """After it."""
        if _goes_back():
            return
        if isinstance(module, GradientCheckpointingLayer):
            self._ended = len(self.live)
        elif isinstance(module, PreTrainedModel):
            began, *layers = self._models.pop()
            self._cuts += [began, len(self.live)]
            if len(layers) > 1:  # the first and the last of them stand for all
                self._cuts += [layers[0], layers[1], layers[-1], self._ended]
                self._left_out.add(layers[1])

    def peaks(self, coming: int = 0) -> list[int]:
        """The most in every piece: those around, before and behind the first and the last layer of each model; on a way
        back where no layer is computed again, a quarter of it each. ``coming`` bytes count as there all the time, which
        only the end adds."""
        found: list[int] = []
        begin = 0
        for end in range(1, len(self.live) + 1):
            if end < len(self.live) and self._back[end] == self._back[begin]:
                continue
            again = [at for at in self._again if begin <= at < end]
            between = {*again[1:2]} if self._back[begin] else set(self._left_out)
            if not self._back[begin]:
                edges = [begin, *sorted(cut for cut in self._cuts if begin <= cut <= end), end]
            elif again:
                edges = [begin, *again[:2], *again[1:][-1:], end]
            else:
                edges = [begin + (end - begin) * quarter // 4 for quarter in range(5)]
            for a, b in pairwise(edges):
                if a in between:
                    between.remove(a)
                else:
                    most = max(self.live[a:b], default=self.live[min(a, len(self.live) - 1)])
                    found.append(most if end == len(self.live) else most + coming)
            begin = end
        return found


def _goes_back() -> bool:
    return torch._C._current_graph_task_id() != -1


class Pretending(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, whatever is done with pretended tensors is done on paper, and what is real and large becomes one of them.

    Storages are counted from the operation that makes them to the moment when nothing refers to them any more, those
    that autograd keeps included: what torch's allocator is asked for, but for what an operation needs within itself.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gloo = torch.device(device).type == "cpu"
        """Whether processes will talk by gloo, which copies what it sends; NCCL does not."""
        self._sent = 0
        self.live = 0
        """Bytes of all tensors that there are now."""
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._known: dict[int, weakref.ref[Any]] = {}
        self._sizes: dict[int, int] = {}
        self._resize = torch.UntypedStorage.resize_
        self._making = False
        self._trace = Trace([])

    def __enter__(self) -> Pretending:
        gc.collect()
        gc.freeze()  # what was there before holds none of them, and need not be looked through again and again
        # What empties and fills them is no operation, and no mode sees it.
        torch.UntypedStorage.resize_ = self._resizing()  # type: ignore[method-assign,assignment]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        gc.unfreeze()

    @contextmanager
    def making(self) -> Iterator[None]:
        """Within, tensors that are made from nothing are pretended, too: the weights of models."""
        self._making = True
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # copies do
                yield
        finally:
            self._making = False

    def course(self, run: Callable[[], Any]) -> Trace:
        """Go through ``run`` and keep account of it.

        What only refers to itself goes at the end of it, not at any moment that the collector chooses.
        """
        gc.collect()
        self._trace = trace = Trace([self.live])
        gc.disable()
        hooks = [register_module_forward_pre_hook(trace.enter), register_module_forward_hook(trace.leave)]
        try:
            run()
        finally:
            for hook in hooks:
                hook.remove()
            gc.enable()
        gc.collect()
        return trace

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes back for this process' part of each
        if active_fake_mode() is not None:
            return function(*arguments, **named)  # asked for shapes only
        if function is torch.ops._c10d_functional.wait_tensor.default:
            return arguments[0]
        given = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, Tensor)]
        if any(isinstance(tensor, FakeTensor) for tensor in given):
            if function in _ASKED:
                return True if given[0].dtype == torch.bool else 1.0  # a number as good as any, and all is finite
            if function in _FILLING:
                return given[0]
            if function in _PICKING:
                arguments = (arguments[0], _numbered(arguments[1]), *arguments[2:])
            found = self._fake.dispatch(function, types, arguments, named)
        else:
            found = self._of_real(function, arguments, named, sum(tensor.numel() for tensor in given), not given)
        converter = self._fake.fake_tensor_converter.meta_converter
        converter.tensor_memo.clear()  # a module whose weights somebody holds on to cannot change its type
        converter.describer.lookup_tensor.data.clear()
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        if self._gloo and function in _SENDING:
            self._send(tree_leaves((arguments, found)))
        self._trace.note(self.live)
        return found

    def _of_real(
        self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any], size: int, from_nothing: bool
    ) -> Any:
        """What comes of real tensors: real where it is small or cannot be known otherwise."""
        if from_nothing or size > FEW:
            try:
                with self._fake:
                    found = function(*arguments, **named)
                size = sum(leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
                weights = size and from_nothing and self._making  # empty ones carry copies of real storages
                if size > FEW or (weights and any(leaf.is_floating_point() for leaf in tree_leaves(found))):
                    return found
            except (DataDependentOutputException, DynamicOutputShapeException):
                pass
        return function(*arguments, **named)

    def _send(self, tensors: Sequence[Any]) -> None:
        """Count gloo's copy of what is put together, which stays until it has sent the next."""
        before = self._sent
        self._sent = max(t.untyped_storage().nbytes() for t in tensors if isinstance(t, Tensor))
        self.live += self._sent
        self._trace.note(self.live)
        self.live -= before

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or tensor.device.type == "meta":  # which even real tensors have no memory on
            return
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]

        def forget(_: Any) -> None:
            del self._known[key]
            self.live -= self._sizes.pop(key)

        self._known[key] = weakref.ref(storage, forget)

    def _resizing(self) -> Callable[[torch.UntypedStorage, int], torch.UntypedStorage]:
        """What empties storages and fills them again, as weights in shards are: it is counted too."""

        def resize(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
            self._resize(storage, size)
            if storage._cdata in self._known:
                self.live += size - self._sizes[storage._cdata]
                self._sizes[storage._cdata] = size
                self._trace.note(self.live)
            return storage

        return resize


def _numbered(places: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Real yes and no for every place as the numbers of the places, without which no shape is known."""
    found: list[Tensor | None] = []
    for index in places:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            found += index.nonzero().unbind(1)
        else:
            found.append(index)
    return found
