"""How the learner's passes over a model are computed: in which precision, recomputed or kept, compiled or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from archer.models.batch import EpisodeBatch
from archer.models.lora import inside


@dataclass(frozen=True)
class Passes:
    """What does not change the results of a pass but for rounding."""

    precision: torch.dtype = torch.float32
    """Of matrix products; weights and what is returned stay float32."""
    checkpointing: bool = False
    """Each layer's insides are computed again on the way back instead of kept: less memory, a third more arithmetic."""
    compiled: bool = False
    """Through torch.compile."""

    def autocast(self, device: torch.device) -> torch.autocast:
        """Within, matrix products are taken in ``precision``."""
        return torch.autocast(device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def hidden(self, trunk: Any, batch: EpisodeBatch) -> Tensor:
        """Run a model without its output layer over a batch's rows, shape [rows, width, d], float32."""
        with self._over(trunk, batch.ids.device) as decoder:
            mask = _mask(decoder.config, batch, self.precision)
            output = decoder(input_ids=batch.ids, attention_mask=mask, position_ids=batch.positions, use_cache=False)
        return cast(Tensor, output.last_hidden_state).float()

    def pooled(self, encoder: Any, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector for each text, shape [texts, d], float32: what the encoder's pooler makes of it, or where it has
        none the last hidden state of the first token.

        ids: int64 [texts, width]. mask: 1 where a token stands and 0 on padding, [texts, width].
        """
        with self._over(encoder, ids.device) as model:
            output = model(input_ids=ids, attention_mask=mask)
        pooled = getattr(output, "pooler_output", None)
        return cast(Tensor, output.last_hidden_state[:, 0] if pooled is None else pooled).float()

    @contextmanager
    def _over(self, trunk: Any, device: torch.device) -> Iterator[Any]:
        """A model without its output layer; within, it is passed as this says."""
        with self.autocast(device), _recomputing(trunk, self.checkpointing):
            model = inside(trunk).base_model
            # Not at the start: a copy of a network (the target critic) is not compiled with it.
            if self.compiled and getattr(model, "_compiled_call_impl", None) is None:
                model.compile(dynamic=True)
            yield model


def _mask(config: Any, batch: EpisodeBatch, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """Who sees whom; two masks where some layers of the decoder see the last tokens only. A mask that is given is used
    as it is: no layer narrows it."""
    window = getattr(config, "sliding_window", None)
    if not window or batch.ids.shape[1] <= window:
        return batch.attention_mask(dtype)
    narrow = batch.attention_mask(dtype, window)
    if getattr(config, "layer_types", None) is None:
        return narrow
    return {"full_attention": batch.attention_mask(dtype), "sliding_attention": narrow}


PLAIN = Passes()
"""Everything in float32 and kept."""


def attend_by(model: Any, name: str | None) -> None:
    """Let a transformers model compute its attention as ``name`` says; None leaves it as it was loaded.

    Raises ValueError where its architecture cannot.
    """
    if name is None:
        return
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        raise ValueError(f"model.attention={name!r}: {type(model).__name__} cannot ({error})") from error
    if model.config._attn_implementation != name:  # some only warn
        raise ValueError(f"model.attention={name!r}: {type(model).__name__} attends in its own way; leave it out")


@contextmanager
def _recomputing(trunk: Any, wanted: bool) -> Iterator[None]:
    """Within, layers keep their inputs only. Outside, nothing knows of it: playing needs their caches."""
    if not wanted or not torch.is_grad_enabled():
        yield
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    def again(call: Callable[..., Any], *arguments: Any) -> Any:
        def within(*arguments: Any) -> Any:
            inside(trunk)  # by the way back, another network may have passed through the same base
            return call(*arguments)

        return checkpoint(within, *arguments, use_reentrant=False)

    layers = [module for module in inside(trunk).modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(inside(trunk)).__name__} has no layers that can be recomputed; set model.checkpointing to false"
        )
    for layer in layers:  # they ask whether they are training, and no more than they: dropout inside stays off
        layer.gradient_checkpointing = layer.training = True
        layer._gradient_checkpointing_func = again
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False
