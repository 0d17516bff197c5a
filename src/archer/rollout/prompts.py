"""Layouts: how what the environment says is put before the agent, as token ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from archer.models.actor import Actor
from archer.types import Ids, Observation, Utterance, observation_text


class Told(Protocol):
    """A conversation so far."""

    @property
    def ids(self) -> Ids:
        """What the agent reads of it."""

    @property
    def turns(self) -> int:
        """Utterances in it, each with its answer."""


T = TypeVar("T", bound=Told)


class Layout(ABC, Generic[T]):
    """Puts conversations before an agent."""

    one_line: ClassVar[bool] = False
    """Whether utterances must not hold line breaks."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def fit(self, actor: Actor) -> None:
        """Make a fresh actor one that can be talked to in this way."""

    @abstractmethod
    def open(self, observation: Observation) -> T:
        """What the agent reads first."""

    @abstractmethod
    def answered(self, told: T, ids: Ids, utterance: str, observation: Observation, before: Collection[str]) -> T:
        """The conversation with one more utterance, by its ids and as text, and what it was answered.

        before: what the agent had said earlier in the game.
        """

    @abstractmethod
    def newest(self, told: T, turns: int) -> T:
        """What opened the conversation, and the newest of its turns."""

    @abstractmethod
    def utterance(self, told: T, text: str) -> Ids:
        """Ids of an utterance as the agent would have said it here, stop token included."""

    def spells(self, said: Utterance) -> bool:
        """Whether the ids of an utterance are its text in this tokenizer's tokens, and not in another's."""
        known = bool((said.ids < len(self._tokenizer)).all())
        text = str(self._tokenizer.decode(said.ids.tolist(), skip_special_tokens=True)) if known else ""
        return known and text.strip().startswith(said.text.strip())  # a stop text is not in the latter

    def aloud(self, utterance: str) -> str:
        """What the environment hears of an utterance."""
        return utterance


LayoutMaker = Callable[[Any], Layout[Any]]
"""A layout for a tokenizer."""


@dataclass(frozen=True)
class ToldText:
    """What opened a conversation, and each utterance with its answer."""

    first: Ids
    answered: tuple[Ids, ...] = ()

    @cached_property  # asked for several times a turn
    def ids(self) -> Ids:
        return np.concatenate([self.first, *self.answered])

    @property
    def turns(self) -> int:
        return len(self.answered)


class PlainText(Layout[ToldText]):
    """One observation per line; the agent answers after the line break and ends with the stop token.

    system: text of a line before the first observation.
    """

    def __init__(self, tokenizer: Any, system: str = "") -> None:
        super().__init__(tokenizer)
        self._system = f"{system}\n" if system else ""
        self._seen: dict[str, Ids] = {}  # short answers come back thousands of times

    def fit(self, actor: Actor) -> None:
        if self.one_line:
            actor.suppress(line_breaks(actor.tokenizer))

    def open(self, observation: Observation) -> ToldText:
        """The observation, after the model's start token where it has one."""
        start = self._tokenizer.bos_token_id
        ids = self._ids(f"{self._system}{observation_text(observation)}\n")
        return ToldText(ids if start is None else np.concatenate([np.array([start], np.int32), ids]))

    def answered(
        self, told: ToldText, ids: Ids, utterance: str, observation: Observation, before: Collection[str]
    ) -> ToldText:
        answer = [self._ids(piece) for piece in self.reply(utterance, observation, before)]
        return ToldText(told.first, (*told.answered, np.concatenate([ids, *answer])))

    def newest(self, told: ToldText, turns: int) -> ToldText:
        return ToldText(told.first, told.answered[-turns:])

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

    def utterance(self, told: ToldText, text: str) -> Ids:
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
