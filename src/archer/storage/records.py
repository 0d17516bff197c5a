"""One conversation as JSON has it, chat messages with rewards, into a game and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from archer.envs.base import LARGEST_REWARD, ScriptedGame
from archer.types import Observation

SPEAKERS = ("user", "system", "developer", "tool", "function")
"""Roles of what is told to the agent."""
ROLES = ("assistant", *SPEAKERS)
OTHERS_WORDS = {
    "human": "user",
    "customer": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "agent": "assistant",
}
"""What other formats call a role."""

_Reward = Annotated[float, Field(gt=-LARGEST_REWARD, lt=LARGEST_REWARD)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def _joined(content: object) -> str | None:
    """The text of a content, in one or several parts."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise ValueError("it must be text, or a list of parts that are all text")
        texts.append(text)
    return "".join(texts)


class _Message(_Strict):
    role: str
    content: Annotated[str | None, BeforeValidator(_joined)] = None
    tool_calls: Any = None
    function_call: Any = None

    @property
    def text(self) -> str:
        """What is said."""
        return self.content or ""


class _Record(_Strict):
    """One conversation; other keys may stand beside these and are not read."""

    messages: list[_Message] = Field(min_length=1)
    reward: _Reward | None = None
    rewards: list[_Reward] | None = None
    terminated: bool | None = None
    truncated: bool | None = None
    success: bool | None = None


def to_game(raw: Any, rewarded: bool) -> ScriptedGame:
    """A conversation of messages as a game; raises ValueError (ValidationError is one) with the reason."""
    record = _Record.model_validate_json(raw) if isinstance(raw, bytes) else _Record.model_validate(raw)
    observations: list[Observation] = []
    utterances: list[str] = []
    heard: list[_Message] = []
    for number, message in enumerate(record.messages):
        if message.role not in ROLES:
            word = message.role.lower()
            nearest = OTHERS_WORDS.get(word) or get_close_matches(word, ROLES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"messages.{number}.role: unknown {message.role!r}, the closest is {nearest!r}; "
                f"known: {', '.join(ROLES)}"
            )
        if message.tool_calls or message.function_call:
            name = "tool_calls" if message.tool_calls else "function_call"
            raise ValueError(
                f"messages.{number}.{name}: an agent says nothing but text; write the call into content, in the "
                "form it is to be said in"
            )
        if message.content is None:
            raise ValueError(f'messages.{number}.content: there is none; an empty text is written ""')
        if message.role != "assistant":
            heard.append(message)
            continue
        if utterances and not heard:
            raise ValueError(
                f"messages.{number}: the assistant speaks twice in a row; join the two or answer the first"
            )
        observations.append(_observation(heard))
        utterances.append(message.text)
        heard = []
    if not utterances:
        raise ValueError("messages: the assistant says nothing")
    terminated = record.terminated if record.terminated is not None else not record.truncated
    return ScriptedGame(
        observations=tuple(observations),
        utterances=tuple(utterances),
        rewards=_rewards(record, len(utterances), rewarded),
        infos=(*({} for _ in utterances[1:]), {} if record.success is None else {"success": record.success}),
        terminated=terminated,
        final_observation=_observation(heard),
    )


def _rewards(record: _Record, turns: int, rewarded: bool) -> tuple[float, ...]:
    """One reward per utterance; a single ``reward`` is paid for the last. NaN where nothing is said and need not be."""
    if not rewarded and record.reward is None and record.rewards is None:
        return (math.nan,) * turns
    if (record.reward is None) == (record.rewards is None):
        raise ValueError("either 'reward', for the whole, or 'rewards', one per assistant message, must be given")
    if record.rewards is None:
        assert record.reward is not None
        return (*[0.0] * (turns - 1), record.reward)
    if len(record.rewards) != turns:
        raise ValueError(f"rewards: {len(record.rewards)} of them for {turns} assistant messages")
    return tuple(record.rewards)


def _observation(messages: Sequence[_Message]) -> Observation:
    """What was told: a user's message as plain text, anything else as the messages themselves."""
    if not messages:
        return ""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    return [{"role": message.role, "content": message.text} for message in messages]


def to_record(game: ScriptedGame) -> dict[str, Any]:
    messages: list[dict[str, str]] = []
    for observation, utterance in zip(game.observations, game.utterances, strict=True):
        messages += [*_told(observation), {"role": "assistant", "content": utterance}]
    return {
        "messages": [*messages, *(_told(game.final_observation) if game.final_observation else ())],
        "rewards": None if math.isnan(game.return_) else list(game.rewards),  # JSON has no NaN
        "terminated": game.terminated,
        "truncated": not game.terminated,
        "success": game.success,
    }


def _told(observation: Observation) -> list[dict[str, str]]:
    if isinstance(observation, str):
        return [{"role": "user", "content": observation}]
    # What an environment has another word for, or puts into the agent's mouth, was heard all the same.
    return [
        {"role": message["role"] if message["role"] in SPEAKERS else "user", "content": message["content"]}
        for message in observation
    ]


def reason_of(error: ValueError) -> str:
    """On one line: field and fault."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = []
    for fault in error.errors(include_url=False)[:3]:
        said = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{'.'.join(map(str, fault['loc']))}: {said}" if fault["loc"] else said)
    return "; ".join(faults)
