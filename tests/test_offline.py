"""Learning from files alone, going on online from there, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import archer
from archer.cli import main
from archer.comparison.curves import read_run
from archer.config import EnvConfig
from archer.config.layers import Layer, to_yaml
from archer.operations.collecting import collect_scripted
from archer.resuming import restore
from archer.run import hold_out
from archer.storage.checkpoint import latest_checkpoint
from archer.storage.conversations import ConversationError, write_conversations
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard, shard_path
from tests.conftest import Command
from tests.runs import fingerprint, preset_run
from tests.worlds import TwoSteps


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred games of four random words, whose first alone is paid."""
    path = tmp_path_factory.mktemp("data") / "games.jsonl"
    write_conversations(path, collect_scripted("demonstrator", TwoSteps, 200, seed=0))
    return path


def _skipping(file: Path) -> dict[str, Any]:
    """Demonstrations of a file, as far as they are readable."""
    return {"files": [str(file)], "games": None, "skip_malformed": True}


@pytest.fixture(scope="module")
def offline(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that never saw an environment."""
    run = tmp_path_factory.mktemp("runs") / "offline"
    archer.train(
        preset_run(
            "archer-offline",
            None,
            data,
            iterations=30,
            warmup=10,
            supervised={"epochs": 8},
            critic={"updates": 6},
            actor={"beta": 4.0, "updates": 2},
        ),
        run,
    )
    return run


def test_no_environment_is_needed_to_train(offline: Path) -> None:
    summary = RunFolder(offline).summary()
    assert summary["return_mean"] is summary["curve"] is None
    assert (summary["games"], summary["demonstrations"]) == (0, 200)
    rows = RunFolder(offline).metrics()
    assert [row["iteration"] for row in rows] == list(range(1, 31))
    assert rows[-1]["games"] == 0 and "actor/loss" in rows[-1] and "rollout/return_mean" not in rows[-1]
    assert all({"critic/sign_share", "critic/return_correlation", "critic/td_rms_turn_02"} <= set(row) for row in rows)
    assert not list((offline / "episodes").iterdir())
    with pytest.raises(ValueError, match="learned from files alone and has no environment; name one"):
        archer.evaluate(archer.load(offline), episodes=5)


def test_the_critic_is_measured_on_conversations_that_it_does_not_learn_from(offline: Path) -> None:
    run = restore(RunFolder.open(offline))
    assert run.demonstrations is not None
    learned = {episode.seed for episode in run.demonstrations}
    assert len(learned) == 190 and len(run.held_out) == 10  # one in twenty of 200
    assert not learned & {episode.seed for episode in run.held_out}
    shown = read_shard(offline / "demonstrations.parquet")
    assert [episode.seed for episode in run.held_out] == [episode.seed for episode in shown[::20]]


def test_no_conversation_is_held_out_where_it_would_serve_nothing() -> None:
    conversations: list[Any] = [*range(3000)]
    for preset, env, measured in (
        ("archer-offline", None, 64),
        ("archer", "maze", 0),
        ("filtered-bc-offline", None, 0),
    ):
        learned, held_out = hold_out(preset_run(preset, env, Path("x.jsonl")), conversations)
        assert (len(learned), len(held_out)) == (3000 - measured, measured)
    assert hold_out(preset_run("archer-offline", None, Path("x.jsonl")), conversations[:19])[1] == []


def test_commands_take_the_environment_that_a_run_from_files_lacks(
    offline: Path, data: Path, tmp_path: Path, command: Command
) -> None:
    env = "tests.worlds:TwoSteps"
    for arguments in (["evaluate"], ["doctor"], ["play", "--side", "env"]):
        done = command(*arguments, str(offline), typed="\n")
        assert done.code == 2 and "has no environment; name one (--env" in done.err
    found = json.loads(command("evaluate", str(offline), "--env", env, "--episodes", "20", "--json").out)
    assert found["return_mean"] == archer.evaluate(archer.load(offline), episodes=20, env=TwoSteps)["return_mean"]
    assert found["reference_return"] == 1.0
    judged = json.loads(command("doctor", str(offline), "--env", env, "--episodes", "20", "--json").out)
    assert judged["health"]["games"] == 20
    played = command("play", str(offline), "--side", "env", "--env", env, typed="\n")
    assert played.code == 0 and "First?" in played.out and "agent:" in played.out
    for arguments, message in (
        (["play", env, "--env", env], "--env is for --side env"),
        (["doctor", str(offline), "--file", str(data), "--env", env], "leave --env out"),
        (["evaluate", str(offline), "--env", "nowhere"], "unknown 'nowhere'"),
    ):
        done = command(*arguments)
        assert done.code == 2 and message in done.err


def test_options_are_of_the_environment_that_a_run_was_trained_with(offline: Path) -> None:
    loaded = archer.load(offline)
    config = replace(loaded.config, env=EnvConfig(name="twenty-questions", options={"objects": "ten"}))
    run = replace(loaded, config=config)
    assert run.task(None)[0] == "twenty-questions" and run.task("tests.worlds:TwoSteps")[0] == "tests.worlds:TwoSteps"
    with pytest.raises(ValueError, match="'TwoSteps' has no option 'objects'"):
        run.task(TwoSteps)  # a class takes the place of the one that the run was trained with


def test_what_was_learned_offline_plays_well(offline: Path) -> None:
    found = archer.evaluate(archer.load(offline), episodes=100, env=TwoSteps)
    assert found["return_mean"] > 0.7  # the data won a quarter of its games


def test_an_offline_run_resumes_exactly(data: Path, tmp_path: Path) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    archer.train(preset_run("archer-offline", None, data), whole)
    archer.train(preset_run("archer-offline", None, data, iterations=2), halted)
    (halted / "config.yaml").write_text((whole / "config.yaml").read_text())
    data_gone = data.rename(tmp_path / "elsewhere.jsonl")  # the run keeps what it learns from
    try:
        archer.train(run=halted, resume=True)
    finally:
        data_gone.rename(data)
    assert fingerprint(halted) == fingerprint(whole)


def test_a_policy_goes_on_online_with_its_critic_and_its_data(offline: Path, tmp_path: Path) -> None:
    config = preset_run(
        "archer", "tests.worlds:TwoSteps", start_from=str(offline), rollout={"games": 8}, iterations=2,
        critic={"demonstrations": 0.25, "updates": 2}, actor={"demonstrations": 0.25, "updates": 1},
    )  # fmt: skip
    run = tmp_path / "online"
    summary = archer.train(config, run)
    assert summary.start_return is not None and summary.start_return > 0.6  # no new supervised start
    assert summary.games == 16 and summary.demonstrations == 200
    before = latest_checkpoint(offline / "checkpoints")
    assert before is not None
    for name in ("critic", "target_critic"):
        old, new = (
            load_file(before / f"{name}.safetensors"),
            load_file(run / "checkpoints" / "000000" / f"{name}.safetensors"),
        )
        assert old and all(torch.equal(old[key], new[key]) for key in old)
    assert (restored := restore(RunFolder.open(run))).demonstrations is not None
    assert len(restored.demonstrations) == 200 and len(restored.replay) == 16


def test_games_of_the_run_before_are_counted(offline: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rollout": {"games": 8}, "iterations": 2, "eval": {"every": 1}}
    first = preset_run("archer", "tests.worlds:TwoSteps", start_from=str(offline), **settings)
    archer.train(first, tmp_path / "first")
    second = preset_run("archer", "tests.worlds:TwoSteps", start_from=str(tmp_path / "first"), **settings)
    assert archer.train(second, tmp_path / "second").games == 32
    assert [row["games"] for row in RunFolder(tmp_path / "second").metrics()] == [16, 24, 32]
    curve = read_run(tmp_path / "second")  # as `archer compare` has it
    assert curve is not None and (curve.games_before, curve.games.tolist()) == (16, [8, 16])
    assert curve.turns.tolist() == [16, 32]  # two a game
    seeds = {episode.seed for number in (1, 2) for episode in _episodes(tmp_path / "second", number)}
    assert not seeds & {episode.seed for number in (1, 2) for episode in _episodes(tmp_path / "first", number)}


def _episodes(run: Path, number: int) -> list[Any]:
    return read_shard(shard_path(run / "episodes", number))


def test_shards_of_a_run_are_data_too(offline: Path, tmp_path: Path) -> None:
    shard = offline / "demonstrations.parquet"
    summary = archer.train(preset_run("bc", None, shard, iterations=0), tmp_path / "run")
    assert summary.demonstrations == 200


def test_malformed_lines_refuse_the_run_or_are_skipped(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(data.read_text() + '{"messages": []}\nnonsense\n')
    with pytest.raises(ConversationError, match=r"broken\.jsonl:201: .*\n.*broken\.jsonl:202"):
        archer.train(preset_run("bc", None, broken), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()  # the same command works once the file is mended
    config = preset_run("bc", None, broken, demonstrations=_skipping(broken))
    assert archer.train(config, tmp_path / "run").demonstrations == 200


def test_what_was_skipped_is_named_and_counted(data: Path, tmp_path: Path, command: Command) -> None:
    long = json.dumps(
        {"messages": [{"role": "assistant", "content": " ".join(map(str, range(200)))}], "reward": 1}
    )  # fmt: skip
    broken = tmp_path / "broken.jsonl"
    broken.write_text(f"{data.read_text()}nonsense\n{long}\n")
    config = preset_run("bc", None, broken, demonstrations=_skipping(broken))
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    run = tmp_path / "run"
    done = command("train", "--config", str(tmp_path / "run.yaml"), "--run", str(run))
    assert done.code == 0, done.err
    assert "2 malformed conversations were skipped:\n" in done.err
    assert f"{broken}:201: Invalid JSON" in done.err and f"{broken}:202: it has " in done.err
    assert "malformed conversations, skipped" in done.out
    assert RunFolder(run).summary()["skipped"] == 2
    (run / "summary.json").unlink()
    resumed = json.loads(command("train", "--resume", str(run), "--json").out)
    assert resumed["skipped"] == RunFolder(run).summary()["skipped"] == 2


def test_a_conversation_longer_than_the_limit_is_named(data: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.jsonl"
    record = {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": " ".join(map(str, range(200)))},
        ],
        "reward": 1,
    }
    long.write_text(data.read_text() + json.dumps(record) + "\n")
    with pytest.raises(ConversationError, match=r"long\.jsonl:201: it has \d+ tokens, and rollout\.max_tokens=64"):
        archer.train(preset_run("bc", None, data, long), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
    skips = preset_run("bc", None, long, demonstrations={"files": [str(long)], "games": None, "skip_malformed": True})
    assert archer.train(skips, tmp_path / "run").demonstrations == 200


def test_a_last_answer_is_cut_where_a_model_may_end(data: Path, tmp_path: Path) -> None:
    # As it is for games that are played: what was said fits, and only what came after it is too long.
    record = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "red"}], "reward": 1}
    record["messages"].append({"role": "user", "content": " ".join(map(str, range(200)))})  # type: ignore[attr-defined]
    long = tmp_path / "long.jsonl"
    long.write_text(data.read_text() + json.dumps(record) + "\n")
    archer.train(preset_run("bc", None, long), tmp_path / "run")
    episode = read_shard(tmp_path / "run" / "demonstrations.parquet")[-1]
    assert len(episode.final_prompt_ids) == 64


def test_utterances_of_several_lines_are_named_and_skipped(data: Path, tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a\nb"}], "reward": 1}
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps(record) + "\n" + data.read_text())
    files: dict[str, Any] = {"files": [str(data), str(broken)], "games": 300}
    minutes = {"layout": "minutes", "utterance_tokens": 8}
    with pytest.raises(
        ConversationError, match=r"broken\.jsonl:1: an utterance has several lines, and rollout.layout="
    ):
        archer.train(preset_run("bc", None, rollout=minutes, demonstrations=files), tmp_path / "run")
    skips = preset_run("bc", None, rollout=minutes, demonstrations=files | {"skip_malformed": True}, iterations=0)
    assert archer.train(skips, tmp_path / "run").demonstrations == 300
    assert archer.train(preset_run("bc", None, broken, iterations=0), tmp_path / "plain").demonstrations == 201


def test_training_that_diverges_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: Any, **more: Any) -> None:
        raise FloatingPointError("the gradient is not finite; lower the learning rate")

    monkeypatch.setattr("archer.starting.clone", diverge)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--offline", str(data), "--run", str(tmp_path / "r"), "--set", "model.tiny.layers=1"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.endswith("archer: the gradient is not finite; lower the learning rate\n")


def test_the_largest_rewards_can_be_learned_from(data: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    large.write_text(
        data.read_text().replace("[0.0, 1.0]", "[0.0, 999999999.0]").replace("[0.0, 0.0]", "[-999999999.0, 0.0]")
    )
    assert "999999999" in large.read_text()
    archer.train(preset_run("archer-offline", None, large, iterations=2), tmp_path / "run")


def test_another_layout_than_the_earlier_runs_is_refused(offline: Path, tmp_path: Path) -> None:
    config = preset_run(
        "archer", "tests.worlds:TwoSteps", start_from=str(offline), rollout={"layout": "plain", "games": 8}
    )
    with pytest.raises(ValueError, match=r"rollout\.layout='plain', but the run .* 'transcript'"):
        archer.train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": {"name": None}, "demonstrations": {"files": [], "games": 5}}, "leaves nothing to learn from"),
        ({"rollout": {"games": 16}}, "rollout.games=16 plays, but env.name is null"),
        ({"critic": {"demonstrations": 0.5}}, "all must come from demonstrations, but critic.demonstrations=0.5"),
        ({"actor": {"demonstrations": 0.0}}, "all must come from demonstrations, but actor.demonstrations=0"),
        ({"demonstrations": {"files": [], "games": None}}, "takes all conversations of files, and there are none"),
        ({"rollout": {"group": 8, "games": 20}, "env": {"name": "x"}}, "not a multiple of rollout.group=8"),
        ({"critic": {"method": "none"}}, "actor.advantage='value' needs Q, but there is no critic"),
        ({"critic": {"method": "tokens"}}, "critic.method='tokens' learns no Q"),
        ({"critic": {"method": "none"}, "actor": {"advantage": "gae"}}, "needs V, but there is no critic"),
        ({"actor": {"advantage": "token_gae"}}, "set critic.method='tokens'"),
        ({"actor": {"advantage": "group"}}, "compares games of the same task seed"),
        ({"actor": {"method": "ppo"}}, "learns from what the policy itself said"),
        (
            {"critic": {"method": "none"}, "actor": {"method": "none"}, "rollout": {"best_of": 3}},
            "lets Q choose, but there is no",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_together_say_why(data: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset_run("archer-offline", None, data, more=[Layer(changes, "test")])


def test_the_command_learns_from_files_and_goes_on_online(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        "--set",
        "threads=1",
        "iterations=1",
        "warmup=0",
        "supervised.epochs=2",
        "eval.final_games=4",
        "eval.every=0",
        "model.tiny.layers=1",
        "model.tiny.width=32",
        "model.tiny.heads=2",
    ]
    main(["train", "--offline", str(data), "--run", str(tmp_path / "off"), *small, "rollout.max_tokens=64"])
    assert "demonstrations" in capsys.readouterr().out
    assert "preset: archer-offline" in (tmp_path / "off" / "config.yaml").read_text()
    goes_on = ["--start-from", str(tmp_path / "off"), "--env", "tests.worlds:TwoSteps", "--run", str(tmp_path / "on")]
    shares = ["rollout.games=8", "critic.demonstrations=0.25", "actor.demonstrations=0.25"]
    main(["train", *goes_on, "--json", *small, *shares])
    assert json.loads(capsys.readouterr().out)["games"] == 8


def test_the_command_names_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--offline", "nowhere.jsonl", "--run", str(tmp_path / "r")])
    assert ended.value.code == 2 and "nowhere.jsonl: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("earlier", ["bc", "archer-offline"])
def test_a_critic_that_was_taken_over_does_not_begin_again(
    earlier: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archer.train(preset_run(earlier, None, data, iterations=0), tmp_path / "first")
    began: list[int] = []
    monkeypatch.setattr("archer.starting.start_critic", lambda *arguments, **keywords: began.append(1))
    config = preset_run(
        "archer", "tests.worlds:TwoSteps", start_from=str(tmp_path / "first"),
        rollout={"games": 8}, iterations=0, critic_start={"epochs": 1},
    )  # fmt: skip
    archer.train(config, tmp_path / "second")
    assert began == ([1] if earlier == "bc" else [])
