"""Hierarchical multi-turn reinforcement learning for language-model agents, after ArCHer (arXiv 2402.19446)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from archer.config import RunConfig
from archer.types import End, Episode, Turn, Utterance

if TYPE_CHECKING:
    from archer.api import evaluate, load
    from archer.comparison.compare import compare
    from archer.operations.scoring import score
    from archer.operations.showing import overview
    from archer.recipe import configure
    from archer.training import train

__all__ = [
    "End",
    "Episode",
    "RunConfig",
    "Turn",
    "Utterance",
    "compare",
    "configure",
    "evaluate",
    "load",
    "overview",
    "score",
    "train",
]

_LAZY = {
    "configure": "archer.recipe",
    "train": "archer.training",
    "load": "archer.api",
    "evaluate": "archer.api",
    "score": "archer.operations.scoring",
    "overview": "archer.operations.showing",
    "compare": "archer.comparison.compare",
}


def __getattr__(name: str) -> object:
    """Load what takes long to import when it is first asked for, so that `archer envs` answers at once."""
    if name not in _LAZY:
        raise AttributeError(f"module 'archer' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
