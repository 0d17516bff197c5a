"""An oracle for Twenty Questions that runs a Hugging Face encoder-decoder in this process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from archer.envs.twenty_questions.oracle import prompt, read_answer


class Seq2SeqOracle:
    """Answers with a model such as a fine-tuned T5, prompted as LMRL-Gym prompts its own.

    path: folder or hub name of the model and its tokenizer.
    device: where it runs.
    batch_size: questions answered at once.
    """

    def __init__(self, path: str, device: str = "cpu", batch_size: int = 64) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._device, self._batch_size = device, batch_size
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._model = AutoModelForSeq2SeqLM.from_pretrained(path).to(device).eval()

    @torch.inference_mode()
    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        """One greedy answer per (target, question); what begins with neither yes nor no is ``Invalid Question.``."""
        prompts = [prompt(target, question) for target, question in zip(targets, questions, strict=True)]
        answers: list[str] = []
        for start in range(0, len(prompts), self._batch_size):
            batch = self._tokenizer(prompts[start : start + self._batch_size], return_tensors="pt", padding=True)
            out = self._model.generate(
                input_ids=batch["input_ids"].to(self._device),
                attention_mask=batch["attention_mask"].to(self._device),
                max_new_tokens=8,
                do_sample=False,
            )
            answers += map(read_answer, self._tokenizer.batch_decode(out, skip_special_tokens=True))
        return answers
