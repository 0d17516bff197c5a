"""Whole runs: exact resume after a kill at any moment, learning, and the command line as a user meets it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import archer
from archer import gathering, metrics, starting, training
from archer.api import OtherDevice, load_critic
from archer.beginning import gather_demonstrations
from archer.config import RunConfig
from archer.config.layers import load_yaml
from archer.measuring import short_of_demonstrations
from archer.progress import Progress
from archer.resuming import restore
from archer.storage.checkpoint import CheckpointError, UnreadableCheckpoint, latest_checkpoint
from archer.storage.runfolder import RunFolder, RunFolderError
from archer.storage.shards import count_rows, read_shard, shard_path
from tests.conftest import Command
from tests.runs import fingerprint, small_run, stop_and_resume
from tests.worlds import Echo, Guess, TwoSteps

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    archer.train(small_run(), run)
    return run


MOMENTS: dict[str, tuple[Any, str, int]] = {
    "before cloning": (starting, "clone", 1),
    "cloned": (starting, "save", 1),
    "critic begun": (starting, "start_critic", 1),
    "start measured": (metrics.MetricLog, "log", 1),
    "start saved": (starting, "save", 2),
    "start renamed": (Path, "rename", 2),
    "actor begun": (starting, "start_actor", 1),
    "offline measured": (metrics.MetricLog, "log", 2),
    "ready": (starting, "save", 3),
    "collect": (gathering, "collect", 3),
    "update_critic": (training, "update_critic", 3),
    "update_actor": (training, "update_actor", 3),
    "keep_games": (training, "keep_games", 3),
    "log": (metrics.MetricLog, "log", 5),
    "save": (training, "save", 2),
    "rename": (Path, "rename", 5),
}
"""What a run does, where, and at which time, counted from its beginning, it is killed."""
SLOWLY = ("before cloning", "critic begun", "start saved", "actor begun", "ready", "collect", "update_critic", "log")
"""Moments so near to others that it is enough to try them now and then."""


def _train_until(moment: str, config: Path, run: Path) -> None:
    """Train, and be killed by ``kill -9`` when it is the time for ``moment``: before it, or right behind it."""
    place, name, last = MOMENTS[moment]
    original, count = getattr(place, name), 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == last and name in ("collect", "rename", "clone"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, deadly)
    training.train(load_yaml(RunConfig(), config), run)


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOWLY else []) for name in MOMENTS]
)
def test_a_run_killed_at_any_moment_resumes_exactly(moment: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    config = tmp_path / "config.yaml"
    config.write_text((uninterrupted / "config.yaml").read_text())
    # A server that has imported everything once, and forks: a fresh interpreter takes longer than the whole run.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    process = processes.Process(target=_train_until, args=(moment, config, run))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    archer.train(run=run, resume=True)
    assert fingerprint(run) == fingerprint(uninterrupted)
    assert not RunFolder(run).starts.exists()
    for number in (2, 4):
        again, once = (read_shard(shard_path(folder / "evaluations", number)) for folder in (run, uninterrupted))
        assert [game.rewards.tolist() for game in again] == [game.rewards.tolist() for game in once]


def test_a_resumed_run_counts_every_update_of_its_actor(tmp_path: Path) -> None:
    fresh = {"method": "ppo", "epochs": 3, "utterances": "fresh", "advantage": "siblings"}
    archer.train(small_run(iterations=3, actor=fresh, eval={"every": 0}), tmp_path / "run")
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    saved = json.loads((checkpoint / "state.json").read_text())["policy_version"]
    # two iterations behind the warm-up, of two batches and three steps on each
    assert saved == restore(RunFolder.open(tmp_path / "run")).agent.policy_version == 2 * 2 * 3


def test_sigterm_says_how_to_go_on(uninterrupted: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    config = tmp_path / "c.yaml"
    config.write_text((uninterrupted / "config.yaml").read_text().replace("iterations: 4", "iterations: 4000"))
    script = "from archer.cli import main; main()"
    train = [sys.executable, "-c", script, "train", "--config", str(config), "--run", str(run)]
    with subprocess.Popen(train, cwd=ROOT, stderr=-1, stdout=-1, text=True) as process:
        while not (run / "checkpoints" / "000002").exists():
            time.sleep(0.05)
            assert process.poll() is None
        refused = command("train", "--resume", str(run))
        assert refused.code == 1 and "in use by another process" in refused.err
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"archer train --resume {run}" in stderr and "Traceback" not in stderr


def test_the_run_folder_holds_what_it_promises(uninterrupted: Path) -> None:
    checkpoint = latest_checkpoint(uninterrupted / "checkpoints")
    assert checkpoint is not None
    model = AutoModelForCausalLM.from_pretrained(checkpoint / "actor")
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(checkpoint / "actor"))
    assert len(list((uninterrupted / "episodes").glob("*.parquet"))) == 4
    assert [count_rows(shard_path(uninterrupted / "evaluations", number)) for number in (1, 2, 3, 4)] == [0, 8, 0, 8]
    assert (uninterrupted / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = RunFolder(uninterrupted).metrics()
    assert [row["games"] for row in rows] == [0, 0, 16, 32, 48, 64]
    assert [row.get("eval/reference_return") for row in rows] == [1.0, 1.0, None, None, None, None]
    shown = np.mean([game.return_ for game in read_shard(RunFolder(uninterrupted).demonstrations_file)])
    assert [row.get("demonstrations/return_mean") for row in rows] == [pytest.approx(shown)] + 5 * [None]
    assert all(0 < row["rollout/entropy"] < 10 for row in rows[2:])
    assert "actor/loss" not in rows[2] and "actor/loss" in rows[3]  # the first iteration is warm-up
    assert not [path for path in uninterrupted.rglob("*") if path.suffix in (".pkl", ".pt", ".bin", ".tmp")]


def test_a_clone_that_cannot_do_what_it_was_shown_is_told_of() -> None:
    shown = {"demonstrations/return_mean": 0.6, "demonstrations/return_ci95": 0.03}
    clone = {
        "eval/return_mean": 0.54,
        "eval/return_ci95": 0.04,
    }  # .06 apart, of which √(.03² + .04²) = .05 may be chance
    said = short_of_demonstrations(shown | clone, 2)
    assert "0.54 ± 0.04" in said and "0.60" in said and "supervised.epochs=2" in said
    assert not short_of_demonstrations(shown | clone | {"eval/return_mean": 0.56}, 2)
    assert not short_of_demonstrations(clone, 2)  # nobody knows what the demonstrations returned


def test_what_the_demonstrations_returned_is_told_beside_the_clone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run(iterations=0, supervised={"epochs": 1, "lr": 1e-9, "matrix_lr": 0.0})
    summary = archer.train(config, tmp_path / "run", progress=Progress())
    assert summary.demonstrations_return == pytest.approx(0.25, abs=0.2)  # one word of four, in 64 games
    assert "More passes over them may help (supervised.epochs=1)" in " ".join(capsys.readouterr().err.split())


def test_the_encoder_critic_trains_too(tmp_path: Path) -> None:
    config = small_run(model={"critic": "encoder"}, actor={"siblings": 1, "advantage": "value"}, iterations=2)
    summary = archer.train(config, tmp_path / "run")
    assert summary.games == 32


def test_a_loaded_run_plays_in_the_precision_it_was_trained_in(tmp_path: Path) -> None:
    archer.train(small_run(iterations=2, model={"precision": "bfloat16"}), tmp_path / "run")
    run = archer.load(tmp_path / "run")
    assert run.actor.precision == torch.bfloat16
    assert archer.evaluate(run, episodes=4, env=TwoSteps)["episodes"] == 4


def test_evaluation_of_a_loaded_run(uninterrupted: Path) -> None:
    result = archer.evaluate(archer.load(uninterrupted), episodes=20)
    assert result["episodes"] == 20 and result["reference_return"] == 1.0
    assert 0 <= result["return_mean"] == result["win_rate"] <= 1
    assert result == archer.evaluate(archer.load(uninterrupted), episodes=20)


def test_evaluation_at_another_temperature(uninterrupted: Path) -> None:
    run = archer.load(uninterrupted)
    plain, same, cold, coldest = (
        archer.evaluate(run, episodes=40, temperature=degrees) for degrees in (None, 1.0, 1e-4, 0.0)
    )
    assert same == plain and plain["temperature"] == 1.0 and plain["start_return"] is not None
    assert cold["return_mean"] == coldest["return_mean"] in (0, 1)  # every game has the same first word
    assert plain["return_mean"] not in (0, 1)
    assert cold["start_return"] is coldest["start_return"] is None  # which was not measured so
    with pytest.raises(ValueError, match=r"temperature must be 0 .* or more, got -1"):
        archer.evaluate(run, temperature=-1.0)


def test_the_critic_of_a_loaded_run_chooses_beside_its_policy(uninterrupted: Path) -> None:
    run = archer.load(uninterrupted)
    plain = archer.evaluate(run, episodes=20)
    both = archer.evaluate(run, episodes=20, best_of=4)
    assert {key: both[key] for key in plain} == plain  # never mixed with the policy's own results
    assert both["best_of"] == 4 and 0 <= both["best_of_return_mean"] == both["best_of_win_rate"] <= 1
    with pytest.raises(ValueError, match="leave one of them out"):
        archer.evaluate(run, episodes=2, temperature=0.0, best_of=2)


def test_a_loaded_critic_is_the_one_that_was_trained(uninterrupted: Path) -> None:
    run = archer.load(uninterrupted)
    saved = load_file(run.checkpoint / "critic.safetensors")
    loaded = load_critic(run).state_dict()
    assert saved and all(torch.equal(value, loaded[name]) for name, value in saved.items())


def test_an_environment_class_of_ones_own(tmp_path: Path) -> None:
    config = small_run(iterations=1, env={"name": "unused"})
    assert archer.train(config, tmp_path / "run", env=TwoSteps).task == "TwoSteps"


def test_a_demonstrator_does_not_know_what_the_environment_drew() -> None:
    games = gather_demonstrations(small_run(demonstrations={"games": 400}), Guess, Progress(quiet=True))[0]
    wins = sum(bool(game.success) for game in games) / 400
    assert 0.15 < wins < 0.35  # a quarter; all, if both had been seeded alike


def test_a_demonstrator_is_enough_to_train(tmp_path: Path) -> None:
    summary = archer.train(small_run(iterations=1), tmp_path / "run", env=Guess)
    assert summary.reference_return is None and summary.gap_closed is None


def test_wrong_input_is_refused_before_a_folder_exists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown 'nowhere'"):
        archer.train(small_run(env={"name": "nowhere"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="no demonstrator"):
        archer.train(small_run(), tmp_path / "run2", env=Echo)
    with pytest.raises(RunFolderError, match="not a run"):
        archer.load(tmp_path)


def test_json_is_all_that_stands_on_standard_output(uninterrupted: Path, command: Command) -> None:
    for arguments, keys in (
        (["envs", "--json"], {"twenty-questions", "twenty-questions-10"}),
        (["presets", "--json"], {"archer", "archer-paper"}),
        (
            ["evaluate", str(uninterrupted), "--episodes", "5", "--json"],
            {"return_mean", "return_ci95", "start_return", "reference_return", "win_rate", "episodes"},
        ),
    ):
        done = command(*arguments)
        assert done.code == 0, done.err
        assert keys <= set(json.loads(done.out))


def test_the_command_explains_mistakes(tmp_path: Path, command: Command) -> None:
    for arguments, message in (
        (["train", "--set", "critic.lrr=1"], "did you mean critic.lr?"),
        (["train", "--preset", "archr"], "unknown preset 'archr'; did you mean 'archer'?"),
        (["evaluate", str(tmp_path)], "is not a run"),
        (["evaluate", "x", "--episodes", "0"], "--episodes must be at least 1"),
        (["evaluate", "x", "--best-of", "-1"], "--best-of must not be negative"),
        (["play", "twenty-questions-10", "--best-of", "4"], "--best-of is for --side env"),
        (["train", "--seed", "99999999999999999999"], "seed: Input should be less than"),
        (["train", "--set", "rollout.stop=x"], "rollout.stop: a list is needed, such as [one, two], got 'x'"),
        (["view", "--export", str(tmp_path / "x.html")], "name the runs to look at"),
        (["view", str(tmp_path), "--port", "65536"], "--port must be from 0 to 65535"),
    ):
        done = command(*arguments)
        assert done.code in (1, 2) and message in done.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("device=cuda:9", r"device='cuda:9' cannot be used here"),
        ("device=meta", r"device='meta' cannot be used here"),
        ("device=nonsense", r"device='nonsense' cannot be used here"),
        ("model.tiny.width=130", r"model\.tiny: width=130 is not a multiple of 2 · heads=4.* set width to 128"),
        ("rollout={utterance_tokens: 64, max_tokens: 64}", r"rollout: utterance_tokens=64 leaves no room"),
        ("model.actor=./nowhere", r"model\.actor: there is no folder './nowhere'"),
        ("model.actor=runs/q/checkpoint/000000", r"model\.actor: there is no folder"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    settings: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr("archer.beginning.gather_demonstrations", lambda *_: pytest.fail("demonstrations are played"))
    done = command("train", "--run", str(tmp_path / "run"), "--set", settings)
    assert done.code == 2 and re.search(message, done.err), done.err
    assert not (tmp_path / "run").exists()  # nor the lock that was held meanwhile


def test_all_damaged_checkpoints_are_named(uninterrupted: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "checkpoints" / "000004" / "state.json").write_text("{}")
    with pytest.warns(UnreadableCheckpoint, match="passing over the checkpoint .*000004: state.json does not match"):
        assert archer.load(run).iteration == 3
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "manifest.json").unlink()
    for arguments in (["train", "--resume", str(run)], ["evaluate", str(run)]):
        done = command(*arguments)
        assert done.code == 1 and f"no checkpoint of {run} can be read" in done.err
        assert "000003: FileNotFoundError" in done.err
        assert "delete" not in done.err


def _stop(*_: Any, **__: Any) -> None:
    """What Ctrl-C does, in the place of a part of the work."""
    raise KeyboardInterrupt


STARTED: dict[str, dict[str, Any]] = {
    "ahead": {"rollout": {"overlap": True, "best_of": 0}},
    "fresh utterances": {"actor": {"method": "baseline", "utterances": "fresh", "advantage": "siblings"}},
    "values kept": {"critic": {"keep_values": 3}},
    "nobody teaches": {"actor_start": {"epochs": 0}},
}


@pytest.mark.parametrize(
    ("kind", "saves"), [("ahead", 1), ("ahead", 2), ("fresh utterances", 2), ("values kept", 2), ("nobody teaches", 1)]
)
def test_a_start_that_was_stopped_goes_on_as_it_would_have(kind: str, saves: int, tmp_path: Path) -> None:
    config = small_run(**STARTED[kind] | {"iterations": 1, "warmup": 0, "supervised": {"epochs": 2}})
    archer.train(config, tmp_path / "whole")
    stop_and_resume(config, tmp_path / "stopped", saves, "archer.starting")
    assert fingerprint(tmp_path / "stopped") == fingerprint(tmp_path / "whole")


def test_a_run_that_takes_over_everything_begins_again_where_it_was_stopped(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no start of its own that would be worth a checkpoint, and what was measured is not told twice."""
    config = small_run(start_from=str(uninterrupted), iterations=1)
    archer.train(config, tmp_path / "whole")
    monkeypatch.setattr("archer.starting.save", _stop)
    with pytest.raises(KeyboardInterrupt):
        archer.train(config, tmp_path / "stopped")
    assert len(RunFolder(tmp_path / "stopped").metrics()) == 1
    monkeypatch.undo()
    archer.train(run=tmp_path / "stopped", resume=True)
    assert fingerprint(tmp_path / "stopped") == fingerprint(tmp_path / "whole")


def test_a_run_of_before_goes_on(uninterrupted: Path, tmp_path: Path) -> None:
    """Whose counters lack what was added since."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "summary.json").unlink()
    state = run / "checkpoints" / "000004" / "state.json"
    kept = ("iteration", "policy_version", "behavior_version", "games_before")
    content = json.loads(state.read_text())
    state.write_text(json.dumps({name: content[name] for name in kept}))
    manifest = json.loads((state.parent / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = hashlib.sha256(state.read_bytes()).hexdigest()
    (state.parent / "manifest.json").write_text(json.dumps(manifest))
    assert archer.train(run=run, resume=True).demonstrations == 64


def test_a_run_of_another_device_is_loaded_where_it_can_be(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    text = (run / "config.yaml").read_text().replace("device: cpu", "device: cuda:9")
    (run / "config.yaml").write_text(text.replace("  states: float32", "  states: paged-8-bit", 1))
    with pytest.warns(OtherDevice, match=r"device='cuda:9' cannot be used here .*; the run is loaded onto the CPU"):
        assert archer.load(run).actor.device.type == "cpu"
    with pytest.raises(ValueError, match=r"device='cuda:9' cannot be used here"):
        archer.train(run=run, resume=True)


@pytest.mark.parametrize("lost", ["demonstrations.parquet", "metrics.jsonl"])
def test_a_run_does_not_go_on_without_a_part_of_it(lost: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / lost).unlink()
    with pytest.raises(RunFolderError, match=rf"has lost {lost}, without which"):
        archer.train(run=run, resume=True)


def test_a_damaged_summary_is_named(uninterrupted: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    whole = (run / "summary.json").read_text()
    (run / "summary.json").write_text(whole[: len(whole) // 2])
    done = command("show", str(run))
    assert done.code == 1 and "summary.json is damaged" in done.err and "--resume" in done.err
    (run / "summary.json").unlink()
    assert command("train", "--resume", str(run), "--json").code == 0
    assert (run / "summary.json").read_text().replace(str(run), str(uninterrupted)) == whole


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr("archer.starting.clone", _stop)
    run = tmp_path / "run"
    done = command("train", "--config", str(uninterrupted / "config.yaml"), "--run", str(run))
    assert (
        done.code == 130 and f"No more than the settings are saved; go on with: archer train --resume {run}" in done.err
    )
    with pytest.raises(CheckpointError, match=rf"has no checkpoint yet.*--resume {run}"):
        archer.load(run)
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archer.starting.start_actor", _stop)
        done = command("train", "--resume", str(run))
    assert (
        done.code == 130 and f"What was finished before is saved; go on with: archer train --resume {run}" in done.err
    )
    archer.train(run=run, resume=True)
    assert fingerprint(run) == fingerprint(uninterrupted)


def test_a_run_that_has_not_played_yet_is_not_begun_from(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("archer.starting.start_critic", _stop)
        archer.train(small_run(), tmp_path / "first")
    with pytest.raises(CheckpointError, match=r"start_from: .*first has no checkpoint yet"):
        archer.train(small_run(start_from=str(tmp_path / "first")), tmp_path / "second")


def test_a_person_can_take_either_side(uninterrupted: Path, command: Command) -> None:
    person = command("play", "twenty-questions-10", typed="Is it a dog?\n" * 20)
    assert "return" in person.out, person.err
    oracle = command("play", str(uninterrupted), "--side", "env", "--best-of", "3", typed="Yes.\n\n")
    assert "agent:" in oracle.out, oracle.err
    hint = command("play", str(uninterrupted))
    assert hint.code == 2 and "is a run: add --side env" in hint.err


def test_the_best_known_return_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At both ends of the offline start and after training it is the same, and some tasks play games to know it."""
    asked: list[object] = []

    def known(make_env: object) -> float:
        asked.append(make_env)
        return 0.75

    monkeypatch.setattr("archer.run.reference_return", known)
    summary = archer.train(small_run(iterations=1), tmp_path / "run")
    assert len(asked) == 1 and summary.reference_return == 0.75
    assert [row["eval/reference_return"] for row in RunFolder(tmp_path / "run").metrics()[:2]] == [0.75, 0.75]


def test_a_run_finds_its_own_environment_again(tmp_path: Path) -> None:
    """A class that was passed to ``train``, and not the default task of the settings, where nobody passes it again."""
    archer.train(small_run(iterations=1), tmp_path / "run", env=TwoSteps)
    run = archer.load(tmp_path / "run")
    assert run.config.env.name == "tests.worlds:TwoSteps"
    assert archer.evaluate(run, episodes=4)["reference_return"] == TwoSteps().reference_return()
    (tmp_path / "run" / "summary.json").unlink()
    assert archer.train(run=tmp_path / "run", resume=True).reference_return == TwoSteps().reference_return()

    class Local(TwoSteps):
        pass

    archer.train(small_run(iterations=1), tmp_path / "local", env=Local)
    with pytest.raises(ValueError, match=r"unknown 'Local'.*passed as env="):
        archer.train(run=tmp_path / "local", resume=True)
    with pytest.raises(ValueError, match="passed as env="):
        archer.evaluate(archer.load(tmp_path / "local"), episodes=4)
    assert archer.evaluate(archer.load(tmp_path / "local"), episodes=4, env=Local)["start_return"] is not None
    assert archer.load(tmp_path / "local").plot()


def test_a_resumed_run_keeps_its_settings(uninterrupted: Path, command: Command) -> None:
    refused = command("train", "--resume", str(uninterrupted), "--set", "iterations=99")
    assert refused.code == 2 and "leave --set out" in refused.err and "--start-from" in refused.err
    refused = command("train", "--resume", str(uninterrupted), "--run", "runs/other")
    assert refused.code == 2 and "leave --run out" in refused.err
    shown = command("train", "--resume", str(uninterrupted), "--show")
    assert shown.out == (uninterrupted / "config.yaml").read_text()


def test_a_run_that_has_a_way_before_it_again_has_no_outcome(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None and (tmp_path / "run" / "summary.json").exists()
    shutil.rmtree(newest)  # its disk had failed
    restore(RunFolder.open(tmp_path / "run"))
    for name in ("summary.json", "final.parquet", "curve.png"):
        assert not (tmp_path / "run" / name).exists() and (uninterrupted / name).exists()
