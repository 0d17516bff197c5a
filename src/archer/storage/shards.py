"""Episode shards: one Parquet file per iteration, at once log, replay buffer and data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from archer.storage.files import replacing
from archer.types import End, Episode, Ids, Observation, Turn, Utterance, share

_TURN = [
    ("observation", pa.string()),
    ("utterance", pa.string()),
    ("reward", pa.float64()),
    ("utterance_ids", pa.list_(pa.int32())),
    ("utterance_logprobs", pa.list_(pa.float32())),
    # A prompt is stored as what it adds to the conversation so far, so that a game's tokens are stored once.
    ("prompt_keep", pa.int32()),
    ("prompt_new_ids", pa.list_(pa.int32())),
    ("info", pa.string()),
]


def _schema(turn: list[tuple[str, Any]]) -> pa.Schema:
    return pa.schema(
        [
            ("iteration", pa.int32()),
            ("task", pa.string()),
            ("seed", pa.int64()),
            ("policy_version", pa.int32()),
            ("end", pa.string()),
            ("return", pa.float64()),
            ("length", pa.int32()),
            ("success", pa.bool_()),
            ("turns", pa.list_(pa.struct(turn))),
            ("final_keep", pa.int32()),
            ("final_new_ids", pa.list_(pa.int32())),
            ("final_observation", pa.string()),
        ]
    )


SCHEMA = _schema(_TURN)
_ELSEWHERE = _schema([*_TURN, ("engine_logprobs", pa.list_(pa.float32()))])
"""Of games that another engine than the built-in one played."""


def is_shard(table: pa.Table) -> bool:
    """Whether a Parquet file's table is one of episodes; it may lack the last observations, as older ones do."""
    found: pa.Schema = table.schema
    last = SCHEMA.field("final_observation")
    if last.name not in found.names:
        found = found.append(last)
    return any(found.equals(schema) for schema in (SCHEMA, _ELSEWHERE))


class StorageError(RuntimeError):
    """A shard cannot be read; the message names the file and the reason."""


def write_shard(path: Path, episodes: Sequence[Episode], iteration: int) -> None:
    """Write episodes to ``path``, which afterwards holds all of them or does not exist; its folder is made for it."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        _write(episodes, iteration, temporary)


def pack(episodes: Sequence[Episode], iteration: int) -> bytes:
    """What ``write_shard`` would write."""
    buffer = pa.BufferOutputStream()
    _write(episodes, iteration, buffer)
    return bytes(buffer.getvalue().to_pybytes())


def unpack(shard: bytes) -> list[Episode]:
    """The episodes of what ``pack`` made."""
    return [_from_row(row) for row in pq.read_table(pa.BufferReader(shard)).to_pylist()]


def _write(episodes: Sequence[Episode], iteration: int, where: Any) -> None:
    rows = [_to_row(episode, iteration) for episode in episodes]
    said = (turn.utterance for episode in episodes for turn in episode.turns)
    schema = SCHEMA if all(utterance.engine_logprobs is None for utterance in said) else _ELSEWHERE
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), where, compression="zstd")


def read_shard(path: Path) -> list[Episode]:
    """Read every episode of a shard; states of a conversation that only grew are views of one array."""
    return [_from_row(row) for row in _read_table(path).to_pylist()]


def _read_table(path: Path) -> pa.Table:
    """A shard's rows; StorageError for what is none."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path}: not a readable episode shard: {error}") from error
    if not is_shard(table):
        raise StorageError(f"{path}: a Parquet file, but not of episodes; its columns are {table.column_names}")
    return table


def read_rows(path: Path, start: int, count: int) -> list[Episode]:
    """Some episodes of a shard; IndexError where it has not so many."""
    table = _read_table(path).slice(start, count)
    if start < 0 or table.num_rows < count:
        raise IndexError(f"{path} has no episodes {start} to {start + count - 1}")
    return [_from_row(row) for row in table.to_pylist()]


def count_rows(path: Path) -> int:
    """Episodes in a shard, 0 where there is none."""
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def shard_path(folder: Path, iteration: int) -> Path:
    """Where the episodes of an iteration lie."""
    return folder / f"{iteration:06d}.parquet"


def _to_row(episode: Episode, iteration: int) -> dict[str, Any]:
    sequence: Ids = np.zeros(0, np.int32)
    turns: list[dict[str, Any]] = []
    for turn in episode.turns:
        keep = _common_prefix(sequence, turn.prompt_ids)
        turns.append(
            {
                "observation": _dump(turn.observation),
                "utterance": turn.utterance.text,
                "reward": turn.reward,
                "utterance_ids": turn.utterance.ids,
                "utterance_logprobs": turn.utterance.logprobs,
                "prompt_keep": keep,
                "prompt_new_ids": turn.prompt_ids[keep:],
                "info": _dump_info(turn.info),
                "engine_logprobs": turn.utterance.engine_logprobs,
            }
        )
        sequence = np.concatenate([turn.prompt_ids, turn.utterance.ids])
    keep = _common_prefix(sequence, episode.final_prompt_ids)
    return {
        "iteration": iteration,
        "task": episode.task,
        "seed": episode.seed,
        "policy_version": episode.policy_version,
        "end": str(episode.end),
        "return": episode.return_,
        "length": len(episode),
        "success": episode.success,
        "turns": turns,
        "final_keep": keep,
        "final_new_ids": episode.final_prompt_ids[keep:],
        "final_observation": None if episode.final_observation is None else _dump(episode.final_observation),
    }


def _from_row(row: dict[str, Any]) -> Episode:
    prompts: list[Ids] = []
    utterances: list[Utterance] = []
    sequence: Ids = np.zeros(0, np.int32)
    for turn in row["turns"]:
        engine = turn.get("engine_logprobs")
        prompts.append(np.concatenate([sequence[: turn["prompt_keep"]], np.array(turn["prompt_new_ids"], np.int32)]))
        utterances.append(
            Utterance(
                ids=np.array(turn["utterance_ids"], np.int32),
                logprobs=np.array(turn["utterance_logprobs"], np.float32),
                text=turn["utterance"],
                engine_logprobs=None if engine is None else np.array(engine, np.float32),
            )
        )
        sequence = np.concatenate([prompts[-1], utterances[-1].ids])
    last = row.get("final_observation")
    final = np.concatenate([sequence[: row["final_keep"]], np.array(row["final_new_ids"], np.int32)])
    turns = tuple(
        Turn(
            prompt_ids=prompt,
            utterance=utterance,
            observation=_load(turn["observation"]),
            reward=turn["reward"],
            info=json.loads(turn["info"]),
        )
        for prompt, utterance, turn in zip(prompts, utterances, row["turns"], strict=True)
    )
    return Episode(
        turns=share(turns, final),
        end=End(row["end"]),
        final_prompt_ids=final,
        seed=row["seed"],
        task=row["task"],
        policy_version=row["policy_version"],
        final_observation=None if last is None else _load(last),
    )


def _common_prefix(a: Ids, b: Ids) -> int:
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


_JSON_MARK = "\0messages"


def _dump(observation: Observation) -> str:
    """Text as it is; behind a mark, as JSON: chat messages, and text that begins with the mark or is not Unicode."""
    if isinstance(observation, str) and not observation.startswith(_JSON_MARK) and _is_unicode(observation):
        return observation
    return _JSON_MARK + json.dumps(observation, default=dict)


def _load(stored: str) -> Observation:
    if not stored.startswith(_JSON_MARK):
        return stored
    observation: Observation = json.loads(stored.removeprefix(_JSON_MARK))
    return observation


def _is_unicode(text: str) -> bool:
    """Whether Parquet can hold the text: bytes that an environment failed to decode are lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dump_info(info: Mapping[str, object]) -> str:
    """JSON of an environment's ``info``, with ``repr`` of each value that JSON has no word for."""
    members: list[str] = []
    for name, value in info.items():
        try:
            member = json.dumps(value, default=_scalar_or_repr)
        except (TypeError, ValueError):  # a mapping with keys other than text, or one that contains itself
            member = json.dumps(repr(value))
        members.append(f"{json.dumps(str(name))}: {member}")
    return "{" + ", ".join(members) + "}"


def _scalar_or_repr(value: Any) -> object:
    """Arrays' scalars as numbers and truth values: ``repr(np.False_)`` read back would count as true."""
    return value.item() if getattr(value, "ndim", None) == 0 else repr(value)
