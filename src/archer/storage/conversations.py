"""Conversations as people keep them: chat messages with rewards, in JSONL or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from archer.envs.base import ScriptedGame
from archer.storage.files import replacing
from archer.storage.records import reason_of, to_game, to_record
from archer.storage.shards import is_shard, read_shard
from archer.types import Episode

SUFFIXES = (".jsonl", ".parquet")
BOM = "\ufeff".encode()
"""What some programs begin a file of text with."""
LISTED = 50
"""Most problems that are listed one by one."""


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
            game = record if isinstance(record, ScriptedGame) else to_game(record, rewarded)
            games.append(replace(game, source=(path, line)))
        except ValueError as error:
            problems.append(Problem(path, line, reason_of(error)))
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
    records = [to_record(game) for game in games]
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
    if path.exists():
        raise ConversationError(f"{path} exists already; choose another name, or delete it")
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
            line = line.removeprefix(BOM)
            if line.strip():
                yield number, line


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
