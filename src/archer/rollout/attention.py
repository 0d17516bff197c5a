"""How Hugging Face models are led to our cache: an attention function of ours, named in their configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import Tensor

from archer.rollout.backends import Scoring
from archer.rollout.cache import SlotCache

NAME = "archer_slots"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    *,
    slots: SlotCache,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer over the conversations of ``slots``, the pass's cache; query [1, heads, N, width]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    scoring = Scoring(scale, sliding_window or 0, softcap or 0.0, s_aux)
    return slots.attend(module.layer_idx, query[0].transpose(0, 1), scoring)[None], None


@cache
def register() -> None:
    """Make ``attend`` known to transformers, whose import takes seconds."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


@contextmanager
def reading_slots(model: Any) -> Iterator[None]:
    """Within, ``model`` attends to the cache that it is given as ``slots``."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual
