"""What attention over cached conversations and sampling are computed with: compiled kernels, or torch."""

from __future__ import annotations

import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_IN_PARALLEL = threading.Lock()


@dataclass(frozen=True)
class Store:
    """Preallocated keys and values of one layer; how they lie in memory is the backend's own business."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Places:
    """Where the N tokens of a forward pass belong, each int64 [N].

    The first ``shared`` tokens of a conversation may lie on a row of another cache, its trunk.
    """

    rows: Ints
    columns: Ints
    """Position in the conversation."""
    trunk_rows: Ints
    shared: Ints

    @cached_property  # every layer asks
    def begins(self) -> Ints:
        """Where each stretch begins, tokens of one row that follow each other, and the end of the last."""
        breaks = (np.diff(self.rows, prepend=-1) != 0) | (np.diff(self.columns, prepend=-1) != 1)
        return np.append(np.flatnonzero(breaks), len(self.rows))

    @cached_property
    def own_columns(self) -> Ints:
        """Column of each token on its own row, behind what lies on the trunk."""
        return self.columns - self.shared

    @cached_property
    def own(self) -> Ints:
        """How many tokens of its own row each token sees, itself included."""
        return self.own_columns + 1

    @cached_property
    def on_devices(self) -> dict[torch.device, _Padded]:
        """What a backend has made of it."""
        return {}


@dataclass(frozen=True)
class Scoring:
    """How a layer scores keys."""

    scale: float
    window: int = 0
    """Only so many of the last tokens are seen; 0: all."""
    softcap: float = 0.0
    """Scores are bent to below it; 0: not."""
    sinks: Tensor | None = None
    """A score per head that takes part in the softmax and stands for nothing, [heads]."""


class Backend(Protocol):
    """The operations that know how keys and values lie in memory; N tokens, each with a row and a column."""

    def allocate(self, rows: int, heads: int, tokens: int, width: int, like: Tensor) -> Store:
        """Room for ``rows`` conversations, of the type and on the device of ``like``."""
        ...

    def write(self, store: Store, keys: Tensor, values: Tensor, places: Places) -> None:
        """Keep ``keys`` and ``values`` [N, heads, width]."""
        ...

    def attend(self, query: Tensor, store: Store, trunk: Store, places: Places, scoring: Scoring) -> Tensor:
        """What the N tokens see of their conversations up to themselves; ``query`` and result [N, heads, width]."""
        ...

    def draw(self, logits: Tensor, lines: Ints, uniforms: Floats) -> tuple[Ints, Floats]:
        """A token from each of ``lines`` [n] of ``logits`` [., vocabulary] by inverse CDF, and its log-probability; the
        most likely one where the uniform number is negative."""
        ...


LANES = 16
"""Numbers that the kernels take at once."""


NO_SINK = np.float32(-1e30)


class CompiledBackend:
    """Numba kernels for float32 and bfloat16 on a processor: no padding, and sums that do not depend on the batch."""

    def allocate(self, rows: int, heads: int, tokens: int, width: int, like: Tensor) -> Store:
        # An odd number of blocks: at high powers of two, conversations would fight for the same lines of the
        # processor's cache.
        blocks = _whole(tokens) // LANES | 1
        keys = like.new_empty(rows, heads, blocks, width, LANES)
        return Store(keys, like.new_empty(rows, heads, blocks * LANES, _whole(width)))

    def write(self, store: Store, keys: Tensor, values: Tensor, places: Places) -> None:
        from archer.rollout.kernels import store as kernel

        kernel(
            array_of(store.keys), array_of(store.values), array_of(keys.contiguous()), array_of(values.contiguous()),
            places.rows, places.own_columns,
        )  # fmt: skip

    def attend(self, query: Tensor, store: Store, trunk: Store, places: Places, scoring: Scoring) -> Tensor:
        from archer.rollout import kernels

        # Of Numba's thread pools, one ends the process when two threads use it at once: here who plays and who learns.
        one = torch.get_num_threads() == 1
        kernel, alone = (kernels.attend, nullcontext()) if one else (kernels.attend_parallel, _IN_PARALLEL)
        width = query.shape[2]
        out = np.empty((*query.shape[:2], _whole(width)), np.float32)
        sinks = NO_SINK if scoring.sinks is None else scoring.sinks.float().numpy()
        with alone:
            kernel(
                query.float().contiguous().numpy(), array_of(store.keys), array_of(store.values),
                array_of(trunk.keys), array_of(trunk.values),
                places.begins, places.rows, places.trunk_rows, places.shared, places.own,
                np.float32(scoring.scale), scoring.window, np.float32(scoring.softcap),
                np.broadcast_to(sinks, query.shape[1:2]).copy(), out,
            )  # fmt: skip
        return torch.from_numpy(out)[:, :, :width].to(query.dtype)

    def draw(self, logits: Tensor, lines: Ints, uniforms: Floats) -> tuple[Ints, Floats]:
        from archer.rollout.kernels import draw as kernel

        tokens, logprobs = np.empty(len(uniforms), np.int64), np.empty(len(uniforms), np.float32)
        kernel(logits.clamp(min=-1e30).numpy(), lines, uniforms, tokens, logprobs)
        return tokens, logprobs


class _Padded:
    """Places on a device, a padded row for each stretch: what all layers of a pass share."""

    def __init__(self, places: Places, device: torch.device) -> None:
        begins, counts = places.begins[:-1], np.diff(places.begins)
        line = np.repeat(np.arange(len(begins)), counts)

        def on_device(index: Ints) -> Tensor:
            return torch.from_numpy(index).to(device)

        self.shape = len(begins), int(counts.max())
        self.at = on_device(line), on_device(np.arange(len(line)) - begins[line])
        self.row, self.trunk_row = on_device(places.rows[begins]), on_device(places.trunk_rows[begins])
        self.own = on_device(places.rows), on_device(places.own_columns)
        self.most, self.longest = int(places.shared.max()), int(places.own.max())
        self._shared, self._seen = on_device(places.shared)[:, None], on_device(places.own)[:, None]
        self._unseen: dict[int, Tensor] = {}

    def unseen(self, window: int) -> Tensor:
        """What tokens may not look at, [stretches, 1, tokens, columns]."""
        if window not in self._unseen:
            column = torch.arange(self.most + self.longest, device=self._shared.device)
            visible = torch.where(column < self.most, column < self._shared, column - self.most < self._seen)
            if window:
                position = torch.where(column < self.most, column, column - self.most + self._shared)
                visible &= position >= self._shared + self._seen - window
            unseen = visible.new_ones(*self.shape, len(column))
            unseen[self.at] = ~visible
            self._unseen[window] = unseen[:, None]
        return self._unseen[window]


def _padded(places: Places, device: torch.device) -> _Padded:
    known = places.on_devices.get(device)
    if known is None:
        known = places.on_devices[device] = _Padded(places, device)
    return known


class TorchBackend:
    """The same in torch, for accelerators and where Numba is not installed: rows padded to the longest."""

    def allocate(self, rows: int, heads: int, tokens: int, width: int, like: Tensor) -> Store:
        return Store(like.new_zeros(rows, heads, tokens, width), like.new_zeros(rows, heads, tokens, width))

    def write(self, store: Store, keys: Tensor, values: Tensor, places: Places) -> None:
        row, column = _padded(places, keys.device).own
        store.keys[row, :, column] = keys
        store.values[row, :, column] = values

    def attend(self, query: Tensor, store: Store, trunk: Store, places: Places, scoring: Scoring) -> Tensor:
        on = _padded(places, query.device)
        heads, width = query.shape[1:]
        padded = query.new_zeros(*on.shape, heads, width)
        padded[on.at] = query
        keys, values = (
            torch.cat([before[on.trunk_row, :, : on.most], after[on.row, :, : on.longest]], dim=2)
            for before, after in ((trunk.keys, store.keys), (trunk.values, store.values))
        )
        # Heads that share keys are lines of one product: keys are not written out for each.
        stretches, groups, columns, _ = keys.shape
        asked = padded.transpose(1, 2).reshape(stretches, groups, -1, width)
        scores = (asked @ keys.transpose(2, 3)).view(stretches, heads, -1, columns) * scoring.scale
        if scoring.softcap:
            scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
        # Not minus infinity: rows that stand for no token see nothing, and must not become nan.
        scores = scores.masked_fill(on.unseen(scoring.window), torch.finfo(scores.dtype).min).float()
        if scoring.sinks is not None:
            sink = scoring.sinks.float()[None, :, None, None].expand(*scores.shape[:3], 1)
            weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
        else:
            weights = scores.softmax(dim=-1)
        seen = weights.to(values.dtype).reshape(stretches, groups, -1, columns) @ values
        return seen.view(stretches, heads, -1, width).transpose(1, 2)[on.at]

    def draw(self, logits: Tensor, lines: Ints, uniforms: Floats) -> tuple[Ints, Floats]:
        logprobs = logits.log_softmax(dim=-1)[torch.from_numpy(lines).to(logits.device)]
        cdf = logprobs.exp().cumsum(dim=-1)
        uniform = torch.from_numpy(uniforms).to(logits.device)
        threshold = (uniform.clamp(min=0) * cdf[:, -1])[:, None]
        drawn = torch.searchsorted(cdf, threshold, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
        token = torch.where(uniform < 0, logprobs.argmax(dim=-1), drawn)
        return token.cpu().numpy(), logprobs.gather(1, token[:, None])[:, 0].cpu().numpy()


@cache  # one warning is enough
def _compiled() -> Backend | None:
    try:
        import numba  # noqa: F401
    except ImportError:
        warnings.warn(
            "Numba is not installed, so playing on a processor takes several times as long: pip install -e '.[fast]'",
            stacklevel=2,
        )
        return None
    return CompiledBackend()


def _whole(count: int) -> int:
    """``count`` rounded up to what the kernels take at once."""
    return count + -count % LANES


def backend_for(device: torch.device) -> Backend:
    """What fits ``device`` and what is installed."""
    return (device.type == "cpu" and _compiled()) or TorchBackend()


def array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """The same memory as an array; bfloat16 as its bits."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
