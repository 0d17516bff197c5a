"""Gradient steps: one optimizer per network, each clipping its own gradients, and Polyak averaging."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from archer import devices
from archer.devices.quantised import adamw
from archer.devices.sharding import full, put_away
from archer.muon import Muon


class Optimizer:
    """AdamW over one network's parameters with its own gradient clipping; Muon for its matrices where asked for.

    lr: learning rate of AdamW.
    matrix_lr: learning rate of Muon (Jordan et al. 2024) for hidden weight matrices; 0 leaves them to AdamW. Muon
        moves every direction of a matrix equally far, so what is rare in the data is learned almost as fast as what
        is frequent: small networks learn to look things up in a conversation several times sooner.
    clip: largest gradient norm.
    weight_decay: decoupled weight decay of both.
    states: what AdamW's are kept in, `float32`, `8-bit` or `paged-8-bit`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        clip: float,
        weight_decay: float = 0.0,
        matrix_lr: float = 0.0,
        states: str = "float32",
    ) -> None:
        self.module = module
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        matrices = hidden_matrices(module) if matrix_lr else []
        apart = {id(p) for p in matrices}
        rest = [p for p in self.parameters if id(p) not in apart]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, fused=True)
            if states == "float32"
            else adamw(rest, lr=lr, weight_decay=weight_decay, states=states)
        ]
        if matrices:
            self.parts.append(Muon(matrices, lr=matrix_lr, weight_decay=weight_decay))
        self._rates = [[group["lr"] for group in part.param_groups] for part in self.parts]
        self.clip = clip

    def scale_lr(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times what it was given as: a schedule is a sequence of factors."""
        for part, rates in zip(self.parts, self._rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = factor * rate

    def step(self, losses: Iterable[tuple[Tensor, float]]) -> float:
        """As ``descend`` with this one alone; the gradient's norm before clipping."""
        return descend([self], losses)[0]

    def clear(self) -> None:
        """Forget the gradient of the last step, which takes as much memory as what learns."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def follow(self) -> float:
        """Clip the gradient that has been found and take a step along it; its norm before that."""
        put_away(self.module)
        # Of weights in shards the gradients have been added up on the way back.
        devices.add_up([p.grad for p in self.parameters if p.grad is not None and not isinstance(p.grad, DTensor)])
        norm = full(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if not torch.isfinite(norm):
            raise FloatingPointError(
                "the gradient is not finite; lower the learning rate or look for infinite rewards in the environment"
            )
        for part in self.parts:
            part.step()
        return float(norm)


def descend(optimizers: Sequence[Optimizer], losses: Iterable[tuple[Tensor, float]]) -> list[float]:
    """One step of several networks on the weighted sum of ``losses``, back-propagated one by one; the norms of their
    gradients before clipping.

    Weights that add up to 1, over all processes, make gradient accumulation an exact mean. A generator keeps one graph
    alive at a time.
    """
    for optimizer in optimizers:
        optimizer.clear()
    for loss, weight in losses:
        (loss * weight).backward()  # type: ignore[no-untyped-call]
    return [optimizer.follow() for optimizer in optimizers]


def split(count: int, pieces: int) -> list[slice]:
    """``count`` items cut into at most ``pieces`` runs of near-equal length, for gradient accumulation."""
    pieces = min(pieces, count)
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def warmup_decay(step: int, steps: int) -> float:
    """Factor of the learning rate at ``step`` (from 0): linear warm-up in a twentieth of all steps, linear decay."""
    return min(1.0, 20 * (step + 1) / steps, 1.05 * (1 - step / steps))


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weight matrices from hidden features to hidden features: no embeddings, no output layers, no adapters."""
    outer: set[int] = set()
    for part in module.modules():
        if isinstance(part, nn.ParameterList):  # an adapter's: factors of matrices
            outer |= {id(factor) for factor in part}
        if isinstance(part, nn.Embedding):
            outer.add(id(part.weight))
        if callable(find := getattr(part, "get_output_embeddings", None)) and (layer := find()) is not None:
            outer.add(id(layer.weight))
    return [
        p for p in module.parameters() if p.requires_grad and p.ndim == 2 and min(p.shape) > 1 and id(p) not in outer
    ]


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target += rate · (source - target), for every parameter."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
