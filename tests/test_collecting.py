"""Collect conversations and have them scored, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import archer
from archer.api import load_critic
from archer.envs.base import ScriptedGame
from archer.models.batch import collate
from archer.operations.collecting import collect_run, collect_scripted
from archer.operations.scoring import score
from archer.storage.conversations import read_all, write_conversations
from archer.storage.shards import read_shard, shard_path
from tests.conftest import Command
from tests.runs import small_run
from tests.worlds import Echo, Guess, TwoSteps


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    archer.train(small_run(iterations=2, eval={"every": 0, "final_games": 4}), folder)
    return folder


def test_scores_are_what_the_critic_said_of_the_tokens_that_were_played(run: Path) -> None:
    loaded = archer.load(run)
    path = shard_path(loaded.folder.episodes, 2)
    games, _ = read_all([path])
    episodes = read_shard(path)
    flat = [turn for game in score(loaded, games) for turn in game]
    with torch.no_grad():
        values = load_critic(loaded)(collate(episodes))
    assert [turn.q for turn in flat] == pytest.approx(values.q.amin(-1).tolist(), abs=1e-4)
    assert [turn.v for turn in flat] == pytest.approx(values.v.amin(-1).tolist(), abs=1e-4)
    assert [turn.advantage for turn in flat] == pytest.approx([turn.q - turn.v for turn in flat])
    assert [turn.utterance for turn in flat] == [said for game in games for said in game.utterances]


def test_a_conversation_that_the_model_cannot_read_is_named(run: Path) -> None:
    long = ScriptedGame(("word " * 500,), ("red",), (0.0,), ({},), True, "")
    with pytest.raises(ValueError, match=r"conversation 2: it has \d+ tokens, and the model reads 64 at most"):
        score(archer.load(run), [ScriptedGame(("First?",), ("red",), (0.0,), ({},), True, ""), long])


def test_collected_games_are_the_policys_own(run: Path) -> None:
    loaded = archer.load(run)
    games = collect_run(loaded, 12, seed=1)
    assert games == collect_run(loaded, 12, seed=1) and games != collect_run(loaded, 12, seed=2)
    for game in games:
        assert game.observations == ("First?", "Then?") and game.final_observation == "Then?"
        assert game.return_ == float(game.utterances[0] == "red") and game.terminated


def test_what_we_cut_off_has_not_ended(run: Path) -> None:
    # The model reads 64 tokens: Echo's longest games do not fit, and end without the task's having ended.
    games = collect_run(archer.load(run), 20, seed=0, env=Echo)
    ended = {len(game.utterances) for game in games if game.terminated}
    cut = {len(game.utterances) for game in games if not game.terminated}
    assert 1 in ended and 5 not in ended and cut


def test_what_the_environment_cut_off_has_not_ended(run: Path) -> None:
    class Cut(TwoSteps):
        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            observation, reward, over, _, info = super().step(utterance)
            return observation, reward, False, over, info

    assert not any(game.terminated for game in collect_run(archer.load(run), 3, seed=0, env=Cut))


def test_scripted_players_play_what_the_task_brings() -> None:
    games = collect_scripted("demonstrator", TwoSteps, 60, seed=0)
    assert 0.1 < sum(game.return_ for game in games) / 60 < 0.45
    assert all(game.return_ == 1.0 for game in collect_scripted("reference", TwoSteps, 5, seed=0))
    with pytest.raises(ValueError, match=r"no reference\(seed\)"):
        collect_scripted("reference", Guess, 5, seed=0)
    with pytest.raises(ValueError, match=r"no demonstrator\(seed\)"):
        collect_scripted("demonstrator", Echo, 5, seed=0)


def test_the_commands(run: Path, tmp_path: Path, command: Command) -> None:
    out, new = tmp_path / "games.jsonl", tmp_path / "more.jsonl"
    done = command("collect", str(run), "--episodes", "4", "--out", str(out), "--json")
    assert json.loads(done.out)["episodes"] == 4, done.err
    scored = json.loads(command("score", str(run), str(out), "--json").out)
    assert [len(game) for game in scored["conversations"]] == [2] * 4 and scored["skipped"] == 0
    assert set(scored["conversations"][0][0]) == {"utterance", "q", "v", "advantage"}
    shown = command("score", str(run), str(out), "--show", "1").out
    assert "Conversation 1" in shown and "Conversation 2" not in shown and "First?" in shown
    with out.open("a") as file:
        file.write("{\n")
    refused = command("score", str(run), str(out))
    assert refused.code == 2 and f"{out}:5: " in refused.err and "Traceback" not in refused.err
    with out.open("a") as file:
        long = {"messages": [{"role": "assistant", "content": "word " * 500}], "reward": 0}
        file.write(f"{json.dumps(long)}\n")
    left = json.loads(command("score", str(run), str(out), "--skip-malformed", "--json").out)
    assert left["skipped"] == 2 and len(left["conversations"]) == 4
    assert left["problems"][0].startswith(f"{out}:5: Invalid JSON")
    assert left["problems"][1].startswith(f"{out}:6: it has ") and "the model reads 64 at most" in left["problems"][1]
    assert (
        f"2 malformed conversations were skipped:\n  {out}:5: "
        in command("score", str(run), str(out), "--skip-malformed").err
    )
    for arguments, message in (
        (["collect", "demonstrator", "--out", str(new)], "--env: name the environment"),
        (["collect", str(run), "--out", "games.csv"], "end in .jsonl or .parquet"),
        (["collect", str(run), "--out", str(new), "--episodes", "0"], "--episodes must be at least 1"),
    ):
        wrong = command(*arguments)
        assert wrong.code == 2 and message in wrong.err


def test_scores_need_no_rewards(run: Path, tmp_path: Path, command: Command) -> None:
    games = collect_run(archer.load(run), 2, seed=0)
    paid, unpaid = tmp_path / "paid.jsonl", tmp_path / "unpaid.jsonl"
    write_conversations(paid, games)
    records = [json.loads(line) for line in paid.read_text().splitlines()]
    unpaid.write_text("".join(f"{json.dumps({'messages': record['messages']})}\n" for record in records))
    found = json.loads(command("score", str(run), str(unpaid), "--json").out)
    assert found == json.loads(command("score", str(run), str(paid), "--json").out)
    shown = command("score", str(run), str(unpaid), "--show", "1").out
    assert "Conversation 1, no reward given" in shown and "nan" not in shown
    refused = command("doctor", str(run), "--file", str(unpaid))
    assert refused.code == 2 and f"{unpaid}:1: either 'reward'" in refused.err


def test_reading_what_was_collected_costs_nothing_of_it(run: Path, tmp_path: Path) -> None:
    games = collect_run(archer.load(run), 3, seed=0)
    write_conversations(tmp_path / "a.parquet", games)
    found, _ = read_all([tmp_path / "a.parquet"])
    assert [game.utterances for game in found] == [game.utterances for game in games]


def test_a_folder_that_is_missing_is_told_before_anything_is_played(
    run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer.operations.collecting.collect_run", None)
    refused = command("collect", str(run), "--out", str(tmp_path / "missing" / "games.jsonl"))
    assert refused.code == 2 and "there is no folder" in refused.err
    (tmp_path / "games.jsonl").write_text("precious")
    refused = command("collect", str(run), "--out", str(tmp_path / "games.jsonl"))
    assert refused.code == 2 and "exists already" in refused.err
    assert (tmp_path / "games.jsonl").read_text() == "precious"
