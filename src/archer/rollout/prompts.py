"""Observations to token ids: how what the environment says is put before the agent."""

from __future__ import annotations

from typing import Any

import numpy as np

from archer.types import Ids, Observation


class PlainText:
    """One observation per line; the agent answers after the line break and ends with the stop token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[str, Ids] = {}  # short answers come back thousands of times

    def first(self, observation: Observation) -> Ids:
        """Ids of the observation that opens an episode, after the model's start token where it has one."""
        start = self._tokenizer.bos_token_id
        ids = self.next(observation)
        return ids if start is None else np.concatenate([np.array([start], np.int32), ids])

    def next(self, observation: Observation) -> Ids:
        """Ids of a later observation, to stand directly behind the utterance it answers."""
        text = observation_text(observation) + "\n"
        ids = self._seen.get(text)
        if ids is None:
            ids = np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)
            if len(self._seen) < 10_000:
                self._seen[text] = ids
        return ids

    def utterance(self, text: str) -> Ids:
        """Ids of a demonstrated utterance, stop token included."""
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return np.array([*ids, self._tokenizer.eos_token_id], np.int32)


def observation_text(observation: Observation) -> str:
    """An observation as plain text; chat messages become ``role: content`` lines."""
    if isinstance(observation, str):
        return observation
    return "\n".join(f"{message['role']}: {message['content']}" for message in observation)
