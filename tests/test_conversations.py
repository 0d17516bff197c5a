"""Conversations in files: what is read, what is refused and why, and that writing and reading agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archer.envs.base import ScriptedGame, play_scripted
from archer.storage.conversations import ConversationError, read_all, read_conversations, write_conversations
from archer.storage.shards import write_shard
from archer.types import Episode, Message
from tests.worlds import Echo, TwoSteps


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _said(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


TALK = [_user("First?"), _said("red"), _user("Then?"), _said("blue")]


def _lines(path: Path, *records: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def _only(path: Path) -> ScriptedGame:
    games, problems = read_all([path])
    assert len(games) == 1 and not problems
    return games[0]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_conversation_becomes_turns(suffix: str, tmp_path: Path) -> None:
    record = {"messages": [*TALK, _user("Over.")], "rewards": [0.5, -1.0], "success": False, "customer": 7}
    path = tmp_path / f"talk{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([record]), path)
    else:
        _lines(path, record)
    game = _only(path)
    assert game.observations == ("First?", "Then?") and game.utterances == ("red", "blue")
    assert game.rewards == (0.5, -1.0) and game.terminated and game.final_observation == "Over."
    assert game.success is False


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rewards_may_be_missing_where_nothing_depends_on_them(suffix: str, tmp_path: Path) -> None:
    (game,), _ = read_all([_lines(tmp_path / "a.jsonl", {"messages": TALK, "reward": None})], rewarded=False)
    assert np.isnan(game.rewards).all() and len(game.rewards) == 2
    again = tmp_path / f"again{suffix}"
    write_conversations(again, [game])
    (read,), _ = read_all([again], rewarded=False)
    assert np.isnan(read.rewards).all() and read.utterances == game.utterances
    with pytest.raises(ConversationError, match=f"again{suffix}:1: either 'reward', for the whole, or 'rewards'"):
        read_all([again])
    wrong = [{"messages": TALK, "reward": 1.0, "rewards": [1.0, 0.0]}, {"messages": TALK, "rewards": [1.0]}]
    with pytest.raises(ConversationError, match="2 malformed conversations"):
        read_all([_lines(tmp_path / "b.jsonl", *wrong)], rewarded=False)


def test_a_single_reward_is_paid_at_the_end(tmp_path: Path) -> None:
    game = _only(_lines(tmp_path / "a.jsonl", {"messages": TALK, "reward": 2}))
    assert game.rewards == (0.0, 2.0) and game.success is None and game.final_observation == ""


@pytest.mark.parametrize(
    ("flags", "terminated"),
    [({}, True), ({"truncated": True}, False), ({"terminated": False}, False), ({"truncated": False}, True)],
)
def test_what_is_not_cut_off_has_ended(flags: dict[str, bool], terminated: bool, tmp_path: Path) -> None:
    assert _only(_lines(tmp_path / "a.jsonl", {"messages": TALK, "reward": 0.0, **flags})).terminated is terminated


def test_other_roles_stay_messages(tmp_path: Path) -> None:
    system, tool = {"role": "system", "content": "Be brief."}, {"role": "tool", "content": "{}"}
    talk = [system, _user("Hi"), _said("look up"), tool, _said("done")]
    game = _only(_lines(tmp_path / "a.jsonl", {"messages": talk, "reward": 1.0}))
    assert game.observations == ([system, _user("Hi")], [tool])


BROKEN = [
    ("{not json", "Invalid JSON"),
    ({"messages": TALK}, "either 'reward', for the whole, or 'rewards'"),
    ({"messages": TALK, "reward": 1.0, "rewards": [1.0, 0.0]}, "either 'reward', for the whole, or 'rewards'"),
    ({"messages": TALK, "rewards": [1.0]}, "rewards: 1 of them for 2 assistant messages"),
    ({"messages": TALK, "reward": "much"}, "reward: Input should be a valid number"),
    ('{"messages": [{"role": "assistant", "content": "a"}], "reward": NaN}', "reward: Input should be a finite number"),
    ({"messages": [], "reward": 1.0}, "messages: List should have at least 1 item"),
    ({"messages": [_user("Hello?")], "reward": 1.0}, "messages: the assistant says nothing"),
    ({"messages": [_said("a"), _said("b")], "reward": 1.0}, "messages.1: the assistant speaks twice in a row"),
    ({"messages": [{"role": "assistant", "content": None}], "reward": 1.0}, "messages.0.content"),
    (
        {"messages": [{"role": "assistant", "content": None}], "reward": 1.0},
        'there is none; an empty text is written ""',
    ),
    (
        {"messages": [*TALK[:1], {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "reward": 1.0},
        "messages.1.tool_calls: an agent says nothing but text; write the call into content",
    ),
    (
        {"messages": [*TALK[:1], {"role": "assistant", "content": "I look.", "function_call": {"name": "f"}}]},
        "messages.1.function_call: an agent says nothing but text",
    ),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]}], "reward": 1.0},
        "messages.0.content: it must be text, or a list of parts that are all text",
    ),
    ({"messages": [{"role": "assistant", "content": 3}]}, "messages.0.content: it must be text, or a"),
    ({"messages": [{"role": "human", "content": "?"}, *TALK[1:]], "reward": 1.0}, "'human', the closest is 'user'"),
    ({"messages": [*TALK[:1], {"role": "gpt", "content": "?"}], "reward": 1.0}, "'gpt', the closest is 'assistant'"),
    ({"messages": [{"content": "a"}], "reward": 1.0}, "messages.0.role: Field required"),
    (
        {"messages": [*TALK, {"role": "asistant", "content": "c"}], "reward": 1.0},
        "messages.4.role: unknown 'asistant', the closest is 'assistant'; known: assistant, user, system,",
    ),
    ({"messages": [{"role": "User", "content": "?"}, *TALK[1:]], "reward": 1.0}, "'User', the closest is 'user'"),
    ({"messages": [{"role": "", "content": "?"}, *TALK[1:]], "reward": 1.0}, "messages.0.role: unknown ''"),
    ({"messages": TALK, "reward": 1e300}, "reward: Input should be less than 1000000000"),
    ({"messages": TALK, "rewards": [0.0, -1e9]}, "rewards.1: Input should be greater than -1000000000"),
    ([1, 2], "Input should be an object"),
]


@pytest.mark.parametrize(("record", "reason"), BROKEN)
def test_a_malformed_line_is_named_with_its_reason(record: Any, reason: str, tmp_path: Path) -> None:
    good = {"messages": TALK, "reward": 1.0}
    path = _lines(tmp_path / "log.jsonl", good, "", record, good)
    with pytest.raises(ConversationError) as refused:
        read_all([path])
    assert f"{path}:3: " in str(refused.value) and reason in str(refused.value)
    games, problems = read_all([path], skip=True)
    assert [game.source for game in games] == [(path, 1), (path, 4)]
    assert [(problem.file, problem.line) for problem in problems] == [(path, 3)]


def test_bytes_that_are_not_text_are_a_malformed_line_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"messages": [{"role": "assistant", "content": "\xff"}], "reward": 1.0}\n')
    games, problems = read_conversations(path)
    assert not games and problems[0].line == 1


def test_every_malformed_line_is_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match=r"^25 malformed conversations:") as refused:
        read_all([_lines(tmp_path / "a.jsonl", *["{"] * 25)])
    assert all(f"a.jsonl:{line}: " in str(refused.value) for line in range(1, 26))


def test_of_very_many_malformed_lines_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match=r"^57 malformed conversations:") as refused:
        read_all([_lines(tmp_path / "a.jsonl", *["{"] * 57)])
    assert "a.jsonl:50: " in str(refused.value) and "a.jsonl:51: " not in str(refused.value)
    assert "\n  and 7 more\n" in str(refused.value)


def test_a_file_of_malformed_lines_alone_is_refused_with_their_reasons(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match=r"no conversation in .*a\.jsonl\n  .*a\.jsonl:1: Invalid JSON"):
        read_all([_lines(tmp_path / "a.jsonl", "{")], skip=True)


def test_what_was_heard_is_written_as_heard(tmp_path: Path) -> None:
    heard: list[Message] = [{"role": "customer", "content": "Hi"}, {"role": "assistant", "content": "(thinks)"}]
    game = ScriptedGame((heard,), ("red",), (1.0,), ({},), True, "")
    write_conversations(tmp_path / "a.jsonl", [game])
    assert _only(tmp_path / "a.jsonl").observations == ([_user("Hi"), _user("(thinks)")],)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    _lines(tmp_path / "empty.jsonl")
    for name, message in (
        ("log.csv", r"end in \.jsonl or \.parquet"),
        ("missing.jsonl", "no such file"),
        ("other.parquet", r"no column 'messages'"),
        ("torn.parquet", "not a readable Parquet file"),
        ("empty.jsonl", "no conversation in"),
    ):
        with pytest.raises(ConversationError, match=message):
            read_all([tmp_path / name])


def test_an_episode_shard_is_conversations_too(episodes: list[Episode], tmp_path: Path) -> None:
    write_shard(tmp_path / "000001.parquet", episodes, 1)
    games, _ = read_all([tmp_path / "000001.parquet"])
    for game, episode in zip(games, episodes, strict=True):
        assert game.utterances == tuple(turn.utterance.text for turn in episode.turns)
        assert game.return_ == episode.return_ and game.terminated == episode.terminated


class Silent(Echo):
    """Answers with nothing at all, or in messages."""

    def step(self, utterance: str) -> Any:
        _, *rest = super().step(utterance)
        return "" if self.turn % 2 else [{"role": "tool", "content": "☃"}], *rest


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_written_is_read_back(suffix: str, tmp_path: Path) -> None:
    games = [play_scripted(Silent(), lambda _: "ein Wört\n", seed) for seed in range(6)]
    env = TwoSteps()
    games += [play_scripted(env, env.demonstrator(seed), seed) for seed in range(3)]
    path = tmp_path / f"games{suffix}"
    write_conversations(path, games)
    found, _ = read_all([path])
    for game, other in zip(found, games, strict=True):
        assert game.observations == other.observations and game.utterances == other.utterances
        assert game.rewards == other.rewards and game.terminated == other.terminated
        assert game.final_observation == other.final_observation and game.success == other.success
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_text_in_parts_and_a_mark_at_the_beginning_are_read(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo", "cache": True}]
    record = {"messages": [_user("Hi"), {"role": "assistant", "content": parts, "tool_calls": []}], "reward": 1.0}
    path = tmp_path / "exported.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8-sig")
    (game,) = read_all([path])[0]
    assert (game.observations, game.utterances) == (("Hi",), ("Hello",))
