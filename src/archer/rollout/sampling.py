"""How utterances are drawn: temperature and filters, stop strings, and random numbers that belong to a game."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from archer.config import RolloutConfig


@dataclass(frozen=True)
class Sampling:
    """How utterances are drawn from the policy."""

    max_tokens: int = 32
    """Longest utterance, stop token included."""
    temperature: float = 1.0
    """What logits are divided by; 0 takes the most likely token."""
    top_k: int = 0
    """Only so many of the most likely tokens are said; 0: all."""
    top_p: float = 1.0
    """Only the most likely tokens that together have at least this probability are said."""
    min_p: float = 0.0
    """Only tokens of at least this share of the most likely one's probability are said."""
    stop: tuple[str, ...] = ()
    """Texts that end an utterance, wherever they fall between tokens; what is said ends before them."""

    @classmethod
    def of(cls, rollout: RolloutConfig) -> Sampling:
        """What a run's settings say."""
        return cls(
            rollout.utterance_tokens, temperature=rollout.temperature,
            top_k=rollout.top_k, top_p=rollout.top_p, min_p=rollout.min_p, stop=rollout.stop,
        )  # fmt: skip

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, whatever the filters."""
        return self.temperature == 0

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from the policy as it is."""
        return (self.temperature, self.top_k, self.top_p, self.min_p) == (1.0, 0, 1.0, 0.0)

    def adjust(self, logits: Tensor) -> Tensor:
        """Logits [n, vocabulary] to draw from: temperature first, then top-k, top-p, min-p, each of what is left."""
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            probability = ordered.softmax(dim=-1)
            dropped = probability.cumsum(dim=-1) - probability >= self.top_p
            logits = logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
        if self.min_p > 0:
            probability = logits.softmax(dim=-1)
            logits = logits.masked_fill(probability < self.min_p * probability.amax(dim=-1, keepdim=True), -torch.inf)
        return logits


@lru_cache(maxsize=8)
def enders(tokenizer: Any, stop: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Whether a token may complete one of the stop texts, [vocabulary]: only behind those is the text looked at."""
    last = {text[-1] for text in stop} | {"\N{REPLACEMENT CHARACTER}"}  # a character in several tokens shows as that
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return np.array([any(letter in text for letter in last) for text in texts])


def cut(text: str, stop: Sequence[str]) -> str:
    """``text`` up to the first stop text in it."""
    found = [text.index(end) for end in stop if end in text]
    return text[: min(found)].strip() if found else text


_GOLDEN, _WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


def _mix(state: Any) -> Any:
    """SplitMix64's finaliser (Steele et al. 2014), of a whole number or of an array of uint64."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _WORD
    return state ^ state >> 31


def stream_key(seed: Sequence[int]) -> int:
    """One number out of several, far from those of similar ones."""
    key = 0
    for word in seed:
        key = _mix((key ^ (word & _WORD)) + _GOLDEN & _WORD)
    return key


def uniform(keys: npt.NDArray[np.uint64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Numbers in [0, 1), each by its key and column alone (SplitMix64 as a counter-based generator)."""
    state = _mix(keys + (columns.astype(np.uint64) + 1) * _GOLDEN)
    numbers: npt.NDArray[np.float32] = (state >> 40).astype(np.float32) * np.float32(2**-24)
    return numbers
