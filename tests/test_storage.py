"""Shards with what environments really say: odd text, chat messages, rewritten histories and array scalars."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from archer.storage.shards import SCHEMA, StorageError, read_shard, write_shard
from archer.types import End, Episode, Observation, Turn, Utterance


def _turn(
    prompt: list[int], said: list[int], observation: Observation = "x", info: dict[str, object] | None = None
) -> Turn:
    utterance = Utterance(np.array(said, np.int32), np.full(len(said), -0.1, np.float32), "said")
    return Turn(np.array(prompt, np.int32), utterance, observation, 0.1, info or {})


def _episode(*turns: Turn, final: list[int]) -> Episode:
    return Episode(turns, End.TURN_LIMIT, np.array(final, np.int32), seed=3, task="t", policy_version=2)


def _through_disk(folder: Path, episode: Episode) -> Episode:
    write_shard(folder / "1.parquet", [episode], 1)
    return read_shard(folder / "1.parquet")[0]


@pytest.mark.parametrize(
    "observation",
    [
        "plain",
        "",
        '"quoted" [1]\n\t\0',
        "Ünïcode 🎯",
        "undecodable \udc80",
        '\0messages[{"role": "user"}]',
        [{"role": "user", "content": "a\udc80"}, {"role": "tool", "content": "b"}],
        [],
    ],
)
def test_any_observation_comes_back(tmp_path: Path, observation: Observation) -> None:
    after = _through_disk(tmp_path, _episode(_turn([1], [2], observation), final=[1, 2]))
    assert after.turns[0].observation == observation


@pytest.mark.parametrize("flag", [np.bool_(False), np.array(False), False, np.bool_(True), True, None])
def test_success_means_the_same_after_reading(tmp_path: Path, flag: object) -> None:
    before = _episode(_turn([1], [2], info={"success": flag}), final=[1, 2])
    assert _through_disk(tmp_path, before).success is before.success


def test_info_that_json_has_no_word_for_is_described(tmp_path: Path) -> None:
    itself: dict[str, object] = {}
    itself["again"] = itself
    info = {"count": np.int64(3), "path": Path("p"), "keys": {(1, 2): 3}, "itself": itself, "plain": {"a": [1, None]}}
    after = _through_disk(tmp_path, _episode(_turn([1], [2], info=info), final=[1, 2])).turns[0].info
    assert after == {
        "count": 3, "path": repr(Path("p")), "keys": "{(1, 2): 3}", "itself": repr(itself), "plain": {"a": [1, None]},
    }  # fmt: skip


def test_a_history_that_is_rewritten_comes_back_too(tmp_path: Path) -> None:
    before = _episode(_turn([1, 2], [3]), _turn([1, 9], [4, 5]), _turn([7], [8]), final=[1, 9, 4])
    after = _through_disk(tmp_path, before)
    assert [turn.prompt_ids.tolist() for turn in after.turns] == [[1, 2], [1, 9], [7]]
    assert after.final_prompt_ids.tolist() == [1, 9, 4]
    # Running sequences 1 2 3 · 1 9 4 5 · 7 8: each prompt is stored as what is new after the shared beginning.
    stored = pq.read_table(tmp_path / "1.parquet").to_pylist()[0]
    assert [(turn["prompt_keep"], turn["prompt_new_ids"]) for turn in stored["turns"]] == [
        (0, [1, 2]),
        (1, [9]),
        (0, [7]),
    ]
    assert (stored["final_keep"], stored["final_new_ids"]) == (0, [1, 9, 4])


def test_a_conversation_that_grows_is_stored_once(tmp_path: Path) -> None:
    before = _episode(_turn([1, 2], [3]), _turn([1, 2, 3, 4], [5]), final=[1, 2, 3, 4, 5, 6])
    after = _through_disk(tmp_path, before)
    assert all(np.shares_memory(turn.prompt_ids, after.final_prompt_ids) for turn in after.turns)
    stored = pq.read_table(tmp_path / "1.parquet").to_pylist()[0]
    assert [turn["prompt_new_ids"] for turn in stored["turns"]] == [[1, 2], [4]] and stored["final_new_ids"] == [6]


def test_what_stands_before_a_cut_is_held_once_as_well(tmp_path: Path) -> None:
    first, second = (_turn([1, 2], [3]), _turn([1, 2, 3, 4], [5])), (_turn([1, 9], [6]), _turn([1, 9, 6], [7]))
    before = _episode(*first, *second, final=[1, 9, 6, 7])
    a, b, c, d = _through_disk(tmp_path, before).turns
    assert np.shares_memory(a.prompt_ids, b.prompt_ids) and np.shares_memory(c.prompt_ids, d.prompt_ids)
    assert not np.shares_memory(b.prompt_ids, c.prompt_ids)


def test_turns_unfold_in_sql(tmp_path: Path) -> None:
    write_shard(tmp_path / "1.parquet", [_episode(_turn([1], [2, 3], info={"success": True}), final=[1, 2, 3])], 7)
    query = f"""select iteration, "end", success, len(turn.utterance_ids), turn.info ->> 'success'
                from (select *, unnest(turns) as turn from '{tmp_path}/1.parquet')"""
    table = duckdb.sql(query)
    assert table is not None
    assert table.fetchall() == [(7, "turn_limit", True, 2, "true")]


def test_an_empty_shard_keeps_its_columns(tmp_path: Path) -> None:
    write_shard(tmp_path / "1.parquet", [], 1)
    assert read_shard(tmp_path / "1.parquet") == []
    assert pq.read_schema(tmp_path / "1.parquet").equals(SCHEMA)


def test_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    write_shard(path, [_episode(_turn([1], [2]), final=[1, 2])], 1)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageError, match=r"1\.parquet: not a readable episode shard"):
        read_shard(path)
    with pytest.raises(StorageError, match=r"missing\.parquet"):
        read_shard(tmp_path / "missing.parquet")


def test_shards_come_back_as_they_were(tmp_path: Path, episodes: list[Episode]) -> None:
    path = tmp_path / "000001.parquet"
    write_shard(path, episodes, 1)
    for before, after in zip(episodes, read_shard(path), strict=True):
        assert (before.end, before.seed, before.task, before.policy_version) == (
            after.end, after.seed, after.task, after.policy_version,
        )  # fmt: skip
        np.testing.assert_array_equal(before.final_prompt_ids, after.final_prompt_ids)
        for a, b in zip(before.turns, after.turns, strict=True):
            np.testing.assert_array_equal(a.prompt_ids, b.prompt_ids)
            np.testing.assert_array_equal(a.utterance.ids, b.utterance.ids)
            np.testing.assert_array_equal(a.utterance.logprobs, b.utterance.logprobs)
            assert (a.observation, a.reward, dict(a.info), a.utterance.text) == (
                b.observation, b.reward, dict(b.info), b.utterance.text,
            )  # fmt: skip
            assert np.shares_memory(b.prompt_ids, after.final_prompt_ids)
    assert list(tmp_path.iterdir()) == [path]


def test_shards_are_tables_for_anyone(tmp_path: Path, episodes: list[Episode]) -> None:
    write_shard(tmp_path / "1.parquet", episodes, 1)
    table = duckdb.sql(f"select count(*), sum(length) from '{tmp_path}/*.parquet' where iteration = 1")
    assert table is not None
    rows = table.fetchall()
    assert rows == [(len(episodes), sum(len(e) for e in episodes))]


def test_a_foreign_or_damaged_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(StorageError, match=r"x\.parquet: not a readable episode shard"):
        read_shard(path)
    duckdb.sql(f"copy (select 1 as a) to '{path}' (format parquet)")
    with pytest.raises(StorageError, match=r"not of episodes.*'a'"):
        read_shard(path)
