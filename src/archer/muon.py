"""Muon (Jordan et al. 2024): every direction of a weight matrix moves equally far."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from archer.devices.sharding import cut_like, full


class Muon(torch.optim.Muon):
    """torch's, whose arithmetic is in a precision that the device is quick in.

    torch's own is always in bfloat16. Processors without instructions for that take 25 to 40 times as long as in
    float32, which is most of a small model's step; so on a processor it is float32. Of weights in shards each process
    computes the whole matrix's step and keeps its own part.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Follow the gradients of all matrices."""
        assert closure is None, "gradients are found elsewhere"
        for group in self.param_groups:
            momentum, lr = group["momentum"], group["lr"]
            for weight in cast(list[Tensor], group["params"]):
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                direction = full(weight.grad.lerp(mean, momentum))  # Nesterov's
                step = orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rows, columns = step.shape
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(cut_like(step.to(weight.dtype), weight), alpha=-lr * max(1, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """About the orthogonal factor of a matrix [rows, columns], its singular values all near 1: the quintic
    Newton-Schulz iteration of Muon, on the smaller of its two Gram matrices."""
    a, b, c = coefficients
    factor = matrix.float() if matrix.device.type == "cpu" else matrix.bfloat16()
    factor = factor / factor.norm().clamp(min=eps)
    tall = factor.shape[0] > factor.shape[1]
    for _ in range(steps):
        gram = factor.mT @ factor if tall else factor @ factor.mT
        change = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor = torch.addmm(factor, factor, change, beta=a) if tall else torch.addmm(factor, change, factor, beta=a)
    return factor
