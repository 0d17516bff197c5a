"""Games that were recorded in tokens, read again: as they were where the tokens are the same, else by their text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import archer
from archer.models.actor import Actor
from archer.models.tiny import build_tiny_actor
from archer.rollout.demonstrations import to_episode
from archer.rollout.history import HISTORIES
from archer.rollout.layouts import LAYOUTS
from archer.rollout.play import Limits, play
from archer.rollout.prompts import PlainText
from archer.rollout.sampling import Sampling
from archer.storage.checkpoint import latest_checkpoint
from archer.storage.conversations import read_all
from archer.storage.shards import read_shard, shard_path, write_shard
from archer.types import End, Episode, observation_text
from tests.runs import small_run
from tests.worlds import Echo

TEXT_LAYOUTS = {name: layout for name, layout in LAYOUTS.items() if issubclass(layout, PlainText)}


def _again(
    episodes: Sequence[Episode], actor: Actor, folder: Path, layout: str = "plain", history: str = "append",
    room: int = 154, limit: int = 160,
) -> list[Episode]:  # fmt: skip
    """Through a shard and back into tokens."""
    write_shard(folder / "1.parquet", episodes, 1)
    games, _ = read_all([folder / "1.parquet"])
    prompts = LAYOUTS[layout](actor.tokenizer)
    return [
        to_episode(game, prompts, seed=0, task="", history=HISTORIES[history], room=room, limit=limit)
        for game in games
    ]  # fmt: skip


def _assert_same(found: Sequence[Episode], episodes: Sequence[Episode]) -> None:
    for one, other in zip(found, episodes, strict=True):
        assert one.end is other.end and one.final_observation == other.final_observation
        np.testing.assert_array_equal(one.final_prompt_ids, other.final_prompt_ids)
        for turn, was in zip(one.turns, other.turns, strict=True):
            np.testing.assert_array_equal(turn.prompt_ids, was.prompt_ids)
            np.testing.assert_array_equal(turn.utterance.ids, was.utterance.ids)
            np.testing.assert_array_equal(turn.utterance.logprobs, was.utterance.logprobs)
            assert (turn.reward, turn.utterance.text) == (was.reward, was.utterance.text)
            assert np.shares_memory(turn.prompt_ids, one.final_prompt_ids) == np.shares_memory(
                was.prompt_ids, other.final_prompt_ids
            )


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
@pytest.mark.parametrize("history", HISTORIES)
def test_in_the_same_tokens_a_game_is_as_it_was_played(layout: str, history: str, actor: Actor, tmp_path: Path) -> None:
    # 96 tokens hold some of Echo's games; others end at the limit, whose last answer is cut, or read a window.
    limits = Limits(max_turns=4, max_tokens=96, parallel=8, history=history)
    played = play(
        actor, Echo, list(range(40)), task="echo", sampling=Sampling(max_tokens=6, stop=("e",)), limits=limits,
        layout=TEXT_LAYOUTS[layout],
    )  # fmt: skip
    assert {End.TERMINATED, End.TURN_LIMIT} <= {episode.end for episode in played}
    assert any(turn.utterance.ids[-1] != actor.stop_id for episode in played for turn in episode.turns)
    found = _again(played, actor, tmp_path, layout, history, room=90, limit=96)
    _assert_same(found, played)
    assert all(episode.policy_version == -1 for episode in found)


def test_a_game_that_ended_at_the_limit_is_no_longer_than_it(actor: Actor, tmp_path: Path) -> None:
    limits = Limits(max_tokens=40, parallel=8)
    played = play(actor, Echo, list(range(8)), task="echo", sampling=Sampling(max_tokens=6), limits=limits)
    ended = [episode for episode in played if episode.end is End.TOKEN_LIMIT]
    assert any(len(episode.final_prompt_ids) == 40 for episode in ended)
    _assert_same(_again(played, actor, tmp_path, room=34, limit=40), played)
    by_text = _again(played, _other(), tmp_path, room=34, limit=40)
    assert [episode.end for episode in by_text] == [episode.end for episode in played]


def _other() -> Actor:
    """An actor whose tokens are others."""
    texts = ["Say a word.\n", *(f"You said {count} words.\n" for count in range(1, 6))] * 9
    return build_tiny_actor(texts, layers=1, width=32, heads=2, context=160, vocabulary=300, seed=0)


@pytest.mark.parametrize("layout", ["plain", "transcript"])
def test_in_other_tokens_or_another_layout_it_is_told_by_its_text(
    layout: str, episodes: list[Episode], actor: Actor, tmp_path: Path
) -> None:
    reader = _other() if layout == "plain" else actor
    found = _again(episodes, reader, tmp_path, layout, limit=1000)
    assert len(found) == len(episodes)
    for episode, was in zip(found, episodes, strict=True):
        assert all(np.isnan(turn.utterance.logprobs).all() for turn in episode.turns)
        assert [turn.utterance.text for turn in episode.turns] == [turn.utterance.text for turn in was.turns]
        assert episode.end is was.end and was.final_observation is not None
        last = reader.tokenizer.decode(episode.final_prompt_ids.tolist())
        assert last.endswith(f"{observation_text(was.final_observation)}\n")


def test_a_shard_without_last_observations_is_read_too(episodes: list[Episode], actor: Actor, tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    write_shard(path, episodes, 1)
    pq.write_table(pq.read_table(path).drop_columns(["final_observation"]), path)
    old = read_shard(path)
    assert all(episode.final_observation is None for episode in old)
    _assert_same(_again(old, actor, tmp_path), old)


def test_an_utterance_that_no_token_of_this_tokenizer_stands_for(episodes: list[Episode], actor: Actor) -> None:
    said = episodes[0].turns[0].utterance
    prompts = PlainText(actor.tokenizer)
    assert prompts.spells(said)
    assert not prompts.spells(dataclasses.replace(said, text=f"{said.text}?"))
    foreign = dataclasses.replace(said, ids=said.ids + np.int32(10_000), text="")
    assert not prompts.spells(foreign)


def test_a_run_learns_from_anothers_games_as_they_were_played(tmp_path: Path) -> None:
    first = tmp_path / "first"
    archer.train(small_run(iterations=1, eval={"every": 0, "final_games": 4}), first)
    begun = latest_checkpoint(first / "checkpoints")
    assert begun is not None
    shard = shard_path(first / "episodes", 1)
    beginnings: tuple[dict[str, Any], ...] = ({"start_from": str(first)}, {"model": {"actor": str(begun / "actor")}})
    for number, begin in enumerate(beginnings):
        config = small_run(
            iterations=0, demonstrations={"files": [str(shard)], "games": None}, eval={"every": 0, "final_games": 4},
            **begin,
        )  # fmt: skip
        archer.train(config, tmp_path / f"{number}")
        _assert_same(read_shard(tmp_path / f"{number}" / "demonstrations.parquet"), read_shard(shard))
