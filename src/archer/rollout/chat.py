"""Chat: conversations as a model's own chat template writes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError

from archer.models.actor import Actor
from archer.rollout.prompts import Layout
from archer.types import Ids, Message, Observation

CONTEXT = 4
"""Tokens before an utterance that it is decoded behind: some tokenizers drop the space that a text begins with."""


Exchange = tuple[Message, ...]


@dataclass(frozen=True)
class ToldChat:
    """A conversation as messages, and as the agent reads it."""

    ids: Ids
    text: str
    """What the ids were written for, special tokens and all."""
    opening: tuple[Message, ...]
    exchanges: tuple[Exchange, ...]
    """Each utterance and the messages that answer it."""

    @property
    def turns(self) -> int:
        return len(self.exchanges)


class Chat(Layout[ToldChat]):
    """Messages through the tokenizer's chat template; what the agent says goes on behind its generation prompt.

    After every turn the whole conversation is written anew by the template. Where that begins with what the agent has
    read and said so far, to the letter, its ids stay as they were sampled and only what follows is tokenised: the
    conversation is one growing row. Where it does not (templates that drop the reasoning of earlier turns), the agent
    reads the new writing from its beginning: every turn is a sample of its own at exactly the ids it was prompted with.
    So nothing is assumed about a template; each turn shows what it does.

    A role that the template refuses or leaves out (of system, tool) is given as the user's, and messages in a row by
    one speaker are joined where it insists on turns. What an environment says cannot forge a message: special tokens
    in it are taken out. Raises ValueError for a tokenizer without a template, a template whose messages by the
    assistant do not end in a token of their own, and a conversation that a template refuses.
    """

    def __init__(self, tokenizer: Any, system: str = "") -> None:
        if not tokenizer.chat_template:
            raise ValueError(
                "rollout.layout='chat': this tokenizer has no chat template; choose rollout.layout=plain, or save the "
                "model with the template of its family (tokenizer.chat_template)"
            )
        super().__init__(tokenizer)
        self._system: list[Message] = [{"role": "system", "content": system}] if system else []
        marks = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._marks = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"(?!)")
        user: Message = {"role": "user", "content": "Hm?"}
        reply: Message = {"role": "assistant", "content": "Aye."}
        tried: dict[str, list[Message]] = {
            "system": [{"role": "system", "content": "Rules."}, user],
            "tool": [user, reply, {"role": "tool", "content": "Found."}],
        }
        self._refused = {role for role, conversation in tried.items() if not self._takes(conversation)}
        self._joins = not self._takes([user, {"role": "user", "content": "Well?"}])
        self.stop_id = self._stop_id([user, reply])

    def fit(self, actor: Actor) -> None:
        """Let utterances end where the template ends the assistant's messages."""
        actor.tokenizer.eos_token = actor.tokenizer.convert_ids_to_tokens(self.stop_id)
        actor.network.generation_config.eos_token_id = self.stop_id

    def open(self, observation: Observation) -> ToldChat:
        return self._anew(tuple(self._given([*self._system, *_messages(observation)])), ())

    def answered(
        self, told: ToldChat, ids: Ids, utterance: str, observation: Observation, before: Collection[str]
    ) -> ToldChat:
        said = self._behind(told.ids, ids)
        words = said.removesuffix(self._tokenizer.convert_ids_to_tokens(self.stop_id))
        answer = self._given(_messages(observation))
        for content in (words, words.strip()):  # a template may set the space before it by itself
            exchanges = (*told.exchanges, ({"role": "assistant", "content": content}, *answer))
            text = self._write(_flat(told.opening, exchanges))
            if text.startswith(told.text + said):
                new = self._ids(text[len(told.text + said) :])
                return ToldChat(np.concatenate([told.ids, ids, new]), text, told.opening, exchanges)
        content = self._marks.sub("", words).strip()
        return self._anew(told.opening, (*told.exchanges, ({"role": "assistant", "content": content}, *answer)))

    def newest(self, told: ToldChat, turns: int) -> ToldChat:
        return self._anew(told.opening, told.exchanges[-turns:])

    def utterance(self, told: ToldChat, text: str) -> Ids:
        """As the template writes it behind the generation prompt; where it writes something else, the bare words."""
        spoken: Message = {"role": "assistant", "content": text}
        written = self._write([*_flat(told.opening, told.exchanges), spoken], prompt=False)
        if written.startswith(told.text):
            ids = self._ids(written[len(told.text) :])
            ends = np.flatnonzero(ids == self.stop_id)
            if len(ends):
                return ids[: ends[0] + 1]
        return np.append(self._ids(text), np.int32(self.stop_id))

    def aloud(self, utterance: str) -> str:
        """What stands behind the reasoning (``</think>``); nothing where that was never ended."""
        _, ended, tail = utterance.rpartition("</think>")
        return tail.strip() if ended else "" if utterance.lstrip().startswith("<think>") else utterance

    def _anew(self, opening: tuple[Message, ...], exchanges: tuple[Exchange, ...]) -> ToldChat:
        """A conversation as the template writes it."""
        text = self._write(_flat(opening, exchanges))
        return ToldChat(self._ids(text), text, opening, exchanges)

    def _given(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as the template takes them."""
        given: list[Message] = []
        for message in messages:
            role = "user" if message["role"] in self._refused else message["role"]
            content = self._marks.sub("", message["content"])
            if self._joins and given and given[-1]["role"] == role:
                given[-1] = {"role": role, "content": f"{given[-1]['content']}\n\n{content}"}
            else:
                given.append({"role": role, "content": content})
        return given

    def _write(self, messages: Sequence[Message], prompt: bool = True) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages], tokenize=False, add_generation_prompt=prompt
                )
            )
        except (TemplateError, ValueError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(f"the model's chat template refuses a conversation of {roles}: {error}") from error

    def _takes(self, messages: list[Message]) -> bool:
        """Whether the template writes every one of the messages."""
        try:
            text = self._write(messages)
        except ValueError:
            return False
        return all(message["content"] in text for message in messages)

    def _stop_id(self, messages: list[Message]) -> int:
        """The token behind the assistant's words."""
        last = messages[-1]["content"]
        behind = self._write(messages, prompt=False).rpartition(last)[2]
        ids = self._ids(behind)
        if not len(ids) or int(ids[0]) not in self._tokenizer.added_tokens_decoder:
            raise ValueError(
                f"rollout.layout='chat': this template ends the assistant's messages by {behind!r}, which does not "
                "begin with a special token; utterances would not know where to stop: choose rollout.layout=plain"
            )
        return int(ids[0])

    def _behind(self, read: Ids, ids: Ids) -> str:
        """Text of ids as it stands behind others."""
        context = read[-CONTEXT:]
        both, alone = self._decode(np.concatenate([context, ids])), self._decode(context)
        return both[len(alone) :] if both.startswith(alone) else self._decode(ids)

    def _decode(self, ids: Ids) -> str:
        return str(self._tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))

    def _ids(self, text: str) -> Ids:
        return np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)


def _flat(opening: Sequence[Message], exchanges: Sequence[Exchange]) -> list[Message]:
    return [*opening, *(message for exchange in exchanges for message in exchange)]


def _messages(observation: Observation) -> list[Message]:
    return [{"role": "user", "content": observation}] if isinstance(observation, str) else observation
