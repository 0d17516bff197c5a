"""Hugging Face models in this process that reply to prompts: behind an environment, as oracles or simulated users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer


class _Respondent:
    """Greedy replies, ``batch_size`` prompts at once."""

    loader: Any
    """What the model is loaded with."""
    side: str
    """Where prompts of a batch are padded."""

    def __init__(self, path: str, device: str = "cpu", batch_size: int = 64, max_tokens: int = 8) -> None:
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._device, self._batch_size, self._max_tokens = device, batch_size, max_tokens
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._tokenizer.padding_side = self.side
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = self.loader.from_pretrained(path).to(device).eval()

    @torch.inference_mode()
    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One greedy reply per prompt."""
        replies: list[str] = []
        for start in range(0, len(prompts), self._batch_size):
            batch = self._tokenizer(list(prompts[start : start + self._batch_size]), return_tensors="pt", padding=True)
            read = batch["input_ids"].to(self._device)
            written = self._model.generate(
                input_ids=read,
                attention_mask=batch["attention_mask"].to(self._device),
                max_new_tokens=self._max_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
            )
            new = written[:, self._skipped(read) :]
            replies += [text.strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]
        return replies

    def _skipped(self, read: torch.Tensor) -> int:
        """Tokens at the beginning of what is written that are no reply."""
        raise NotImplementedError


class Seq2SeqRespondent(_Respondent):
    """An encoder-decoder such as a fine-tuned T5.

    path: folder or hub name of the model and its tokenizer. device: where it runs. batch_size: prompts at once.
    max_tokens: longest reply.
    """

    loader = AutoModelForSeq2SeqLM
    side = "right"

    def _skipped(self, read: torch.Tensor) -> int:
        return 0


class CausalRespondent(_Respondent):
    """A decoder, which goes on from the prompt. Arguments as those of ``Seq2SeqRespondent``."""

    loader = AutoModelForCausalLM
    side = "left"

    def _skipped(self, read: torch.Tensor) -> int:
        return read.shape[1]
