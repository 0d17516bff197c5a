"""Value heads: small networks that read values off a hidden state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Heads(nn.Module):
    """``count`` independent three-layer ReLU networks from a feature to one value each: [..., d] -> [..., count].

    Values are learned in standard units; ``location`` and ``scale`` (set once, from the demonstrations' returns) turn
    them into the environment's, so that neither learning rate nor initialisation depends on the size of its rewards.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int, count: int, *, normalise: bool) -> None:
        super().__init__()
        norm: nn.Module = nn.LayerNorm(features) if normalise else nn.Identity()
        self.norm = norm
        self.first = nn.ModuleList(nn.Linear(features, hidden) for _ in range(count))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(count))
        self.last = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(count))
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        features = self.norm(features)
        values = [
            last(torch.relu(second(torch.relu(first(features)))))
            for first, second, last in zip(self.first, self.second, self.last, strict=True)
        ]
        return self.location + self.scale * torch.cat(values, dim=-1).float()

    def set_units(self, location: float, scale: float) -> None:
        """Make ``location`` the value of a zero output and ``scale`` the size of a unit one.

        Returns that hardly differ tell nothing about the size of those to come: a ``scale`` under 0.001 counts as 1.
        """
        self.location.fill_(location)
        self.scale.fill_(scale if scale >= 1e-3 else 1.0)
