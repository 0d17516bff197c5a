"""Layouts: how what the environment says is put before the agent, as token ids."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np

from archer.types import Ids, Observation


class PlainText:
    """One observation per line; the agent answers after the line break and ends with the stop token."""

    one_line: ClassVar[bool] = False
    """Whether utterances must not hold line breaks."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[str, Ids] = {}  # short answers come back thousands of times

    def first(self, observation: Observation) -> Ids:
        """Ids of the observation that opens an episode, after the model's start token where it has one."""
        start = self._tokenizer.bos_token_id
        ids = self._ids(observation_text(observation) + "\n")
        return ids if start is None else np.concatenate([np.array([start], np.int32), ids])

    def next(self, utterance: str, observation: Observation, before: Collection[str]) -> Ids:
        """Ids of a later observation, to stand directly behind the ``utterance`` it answers.

        before: what the agent had said earlier in the game.
        """
        return np.concatenate([self._ids(piece) for piece in self.reply(utterance, observation, before)])

    @staticmethod
    def reply(utterance: str, observation: Observation, before: Collection[str]) -> tuple[str, ...]:
        """Text of an answered utterance's answer, in pieces that are tokenised apart."""
        return (observation_text(observation) + "\n",)

    def _ids(self, text: str) -> Ids:
        ids = self._seen.get(text)
        if ids is None:
            ids = np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)
            if len(self._seen) < 10_000:
                self._seen[text] = ids
        return ids

    def utterance(self, text: str) -> Ids:
        """Ids of a demonstrated utterance, stop token included."""
        return np.append(self._ids(text), np.int32(self._tokenizer.eos_token_id))


class Transcript(PlainText):
    """As plain text, but every answer repeats the utterance that it answers: ``Is it alive? No.``.

    What was answered then stands beside the answer, in one line of text that a tokenizer trained on it makes one
    token. A small model need not first learn to bring the two together, which otherwise takes it millions of tokens;
    a pretrained one has learned that and is better served by the plain layout, which is shorter.
    """

    @staticmethod
    def reply(utterance: str, observation: Observation, before: Collection[str]) -> tuple[str, ...]:
        return (f"{utterance} {observation_text(observation)}\n",)


class Minutes(PlainText):
    """As plain text, and behind every answer a note of what was asked: ``No.`` and then ``Is it alive? No.``.

    The note serves as in a transcript. The answer before it is one token that is the same for all questions, so what a
    network knows about the answer to one of them helps it to value all. What the agent had said before, word for word,
    is answered ``Again: No.``: to foresee that is to know a repetition, which the bare answer hardly teaches. An agent
    goes by the notes, and to write some of its own would please a critic that goes by them too: so an utterance has no
    line breaks.
    """

    one_line = True

    @staticmethod
    def reply(utterance: str, observation: Observation, before: Collection[str]) -> tuple[str, ...]:
        answer = f"{observation_text(observation)}\n"
        return (f"Again: {answer}" if utterance in before else answer, f"{utterance} {answer}")


def line_breaks(tokenizer: Any) -> list[int]:
    """Ids of all tokens that hold a line break."""
    return [i for i, text in enumerate(tokenizer.batch_decode([[i] for i in range(len(tokenizer))])) if "\n" in text]


LAYOUTS: dict[str, type[PlainText]] = {"plain": PlainText, "transcript": Transcript, "minutes": Minutes}


def observation_text(observation: Observation) -> str:
    """An observation as plain text; chat messages become ``role: content`` lines."""
    if isinstance(observation, str):
        return observation
    return "\n".join(f"{message['role']}: {message['content']}" for message in observation)
