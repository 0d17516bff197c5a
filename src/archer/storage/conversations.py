"""Conversations as people keep them: chat messages with rewards, in JSONL or Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archer.envs.base import LARGEST_REWARD, ScriptedGame
from archer.storage.files import replacing
from archer.storage.shards import is_shard, read_shard
from archer.types import Episode, Observation

SUFFIXES = (".jsonl", ".parquet")
SPEAKERS = ("user", "system", "developer", "tool", "function")
"""Roles of what is told to the agent."""
ROLES = ("assistant", *SPEAKERS)
LISTED = 50
"""Most problems that are listed one by one."""

_Reward = Annotated[float, Field(gt=-LARGEST_REWARD, lt=LARGEST_REWARD)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Message(_Strict):
    role: str
    content: str


class _Record(_Strict):
    """One conversation; other keys may stand beside these and are not read."""

    messages: list[_Message] = Field(min_length=1)
    reward: _Reward | None = None
    rewards: list[_Reward] | None = None
    terminated: bool | None = None
    truncated: bool | None = None
    success: bool | None = None


@dataclass(frozen=True)
class Problem:
    """A conversation that cannot be used."""

    file: Path | None
    """None for one that is from no file."""
    line: int
    """Line of a JSONL file, row of a Parquet file, or number among the conversations that were given; from 1."""
    reason: str

    def __str__(self) -> str:
        where = f"conversation {self.line}" if self.file is None else f"{self.file}:{self.line}"
        return f"{where}: {self.reason}"


class ConversationError(ValueError):
    """Conversations cannot be read; the message names every file, line and reason."""


def read_conversations(path: Path, *, rewarded: bool = True) -> tuple[list[ScriptedGame], list[Problem]]:
    """Every conversation of a file that can be read, and what was wrong with the others.

    ``.jsonl``: a JSON object per line; ``.parquet``: a row per conversation, or an episode shard of a run. A
    conversation has ``messages`` (role and content; what the ``assistant`` says is the agent's, all else is told to
    it), and ``rewards``, one per utterance, or one ``reward`` for its end. ``truncated`` marks one that was cut off.
    Unless they must be ``rewarded``, those may be missing: then rewards are NaN.
    Raises ConversationError where the file as a whole is of another kind.
    """
    games: list[ScriptedGame] = []
    problems: list[Problem] = []
    for line, record in _records(path):
        try:
            game = record if isinstance(record, ScriptedGame) else _to_game(record, rewarded)
            games.append(replace(game, source=(path, line)))
        except ValueError as error:
            problems.append(Problem(path, line, _reason(error)))
    return games, problems


def read_all(
    paths: Iterable[Path], *, skip: bool = False, rewarded: bool = True
) -> tuple[list[ScriptedGame], list[Problem]]:
    """The conversations of all files, each with its rewards where they must be ``rewarded``, and the malformed ones
    that were skipped.

    Raises ConversationError where there are malformed ones and ``skip`` is not set, and where nothing is left.
    """
    games: list[ScriptedGame] = []
    problems: list[Problem] = []
    files = list(paths)
    for path in files:
        found, bad = read_conversations(path, rewarded=rewarded)
        games += found
        problems += bad
    if not skip:
        refuse(problems)
    if not games:
        raise ConversationError(f"no conversation in {', '.join(map(str, files))}\n{listed(problems)}".rstrip())
    return games, problems


def problem_of(game: ScriptedGame, number: int, reason: str) -> Problem:
    """What is wrong with a game, named by where it is from, else by its number among those that were given."""
    file, line = game.source or (None, number)
    return Problem(file, line, reason)


def listed(problems: Sequence[Problem]) -> str:
    """A line for each problem, and one for all those beyond the first ``LISTED``."""
    lines = [f"  {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  and {len(problems) - LISTED} more")
    return "\n".join(lines)


def skipping(problems: Sequence[Problem]) -> str:
    """What is said of those that are left out."""
    return f"{len(problems)} malformed conversations were skipped:\n{listed(problems)}"


def refuse(problems: Sequence[Problem]) -> None:
    """Raise ConversationError that lists the problems, if there are any."""
    if problems:
        raise ConversationError(
            f"{len(problems)} malformed conversations:\n{listed(problems)}\n"
            "Mend them, or leave them out: demonstrations.skip_malformed=true, or --skip-malformed where that is a flag"
        )


def write_conversations(path: Path, games: Sequence[ScriptedGame]) -> None:
    """Write conversations in the form that ``read_conversations`` reads; all of them or nothing."""
    check_suffix(path)
    records = [_to_record(game) for game in games]
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records), temporary, compression="zstd")
        else:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def check_suffix(path: Path) -> None:
    """Refuse a name that says nothing about the file's form."""
    if path.suffix not in SUFFIXES:
        raise ConversationError(f"{path}: conversations are kept in files that end in {' or '.join(SUFFIXES)}")


def check_free_to_write(path: Path) -> None:
    """Refuse a name or a folder that conversations cannot be written to, before they are made."""
    check_suffix(path)
    if not path.parent.is_dir():
        raise ConversationError(f"{path}: there is no folder {path.parent}; make it first")


def check_file(path: Path) -> None:
    """Refuse a file that is not there, or of another kind by its name."""
    check_suffix(path)
    if not path.is_file():
        raise ConversationError(f"{path}: no such file")


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and raw conversation; what is not even JSON raises at its line."""
    check_file(path)
    if path.suffix == ".parquet":
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise ConversationError(f"{path}: not a readable Parquet file: {error}") from error
        if is_shard(table):
            yield from enumerate(map(from_episode, read_shard(path)), start=1)
        elif "messages" not in table.column_names:
            raise ConversationError(
                f"{path}: neither conversations (no column 'messages') nor an episode shard; "
                f"its columns are {table.column_names}"
            )
        else:
            yield from enumerate(table.to_pylist(), start=1)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _to_game(raw: Any, rewarded: bool) -> ScriptedGame:
    """A conversation of messages as a game; raises ValueError (ValidationError is one) with the reason."""
    record = _Record.model_validate_json(raw) if isinstance(raw, bytes) else _Record.model_validate(raw)
    observations: list[Observation] = []
    utterances: list[str] = []
    heard: list[_Message] = []
    for number, message in enumerate(record.messages):
        if message.role not in ROLES:
            (nearest,) = get_close_matches(message.role.lower(), ROLES, n=1, cutoff=0.0)
            raise ValueError(
                f"messages.{number}.role: unknown {message.role!r}, the closest is {nearest!r}; "
                f"known: {', '.join(ROLES)}"
            )
        if message.role != "assistant":
            heard.append(message)
            continue
        if utterances and not heard:
            raise ValueError(
                f"messages.{number}: the assistant speaks twice in a row; join the two or answer the first"
            )
        observations.append(_observation(heard))
        utterances.append(message.content)
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
        return messages[0].content
    return [{"role": message.role, "content": message.content} for message in messages]


def _to_record(game: ScriptedGame) -> dict[str, Any]:
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


def from_episode(episode: Episode) -> ScriptedGame:
    """An episode as a conversation, which keeps its tokens beside the text."""
    last = episode.final_observation
    return ScriptedGame(
        observations=tuple(turn.observation for turn in episode.turns),
        utterances=tuple(turn.utterance.text for turn in episode.turns),
        rewards=tuple(turn.reward for turn in episode.turns),
        infos=tuple(turn.info for turn in episode.turns),
        terminated=episode.terminated,
        final_observation="" if last is None else last,
        played=episode,
    )


def _reason(error: ValueError) -> str:
    """On one line: field and fault."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" if fault["loc"] else fault["msg"]
        for fault in error.errors(include_url=False)[:3]
    )
