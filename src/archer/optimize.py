"""Gradient steps: one optimizer per network, each clipping its own gradients, and Polyak averaging."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Optimizer:
    """AdamW over one network's parameters with its own gradient clipping."""

    def __init__(self, module: nn.Module, *, lr: float, clip: float, weight_decay: float = 0.0) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=weight_decay, fused=True)
        self.clip = clip

    def step(self, losses: Iterable[tuple[Tensor, float]]) -> float:
        """One step on the weighted sum of ``losses``, back-propagated one by one; the gradient's norm before clipping.

        Weights that add up to 1 make gradient accumulation an exact mean. A generator keeps one graph alive at a time.
        """
        self.adam.zero_grad(set_to_none=True)
        for loss, weight in losses:
            (loss * weight).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                "the gradient is not finite; lower the learning rate or look for infinite rewards in the environment"
            )
        self.adam.step()
        return float(norm)


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target += rate · (source - target), for every parameter."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
