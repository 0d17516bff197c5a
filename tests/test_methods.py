"""How a run of each kind of method goes: what is played, in which order it learns, and what it keeps."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import archer
import archer.training
from archer.api import load_critic
from archer.config.layers import to_yaml
from archer.operations.exporting import card
from archer.operations.showing import overview
from archer.replay import Replay
from archer.resuming import restore
from archer.rollout.best_of import play_best_of
from archer.rollout.play import play
from archer.storage.checkpoint import latest_checkpoint
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard, shard_path
from tests.conftest import Command
from tests.runs import fingerprint, preset_run

TASK = "tests.worlds:TwoSteps"
PLAY: dict[str, Any] = {"rollout": {"games": 16}, "iterations": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Three iterations of a preset, played once for all who only look at them."""

    @functools.cache
    def run_of(preset: str) -> Path:
        run = tmp_path_factory.mktemp(preset) / "run"
        archer.train(preset_run(preset, TASK, **PLAY), run)
        return run

    return run_of


@pytest.mark.parametrize("preset", ["archer", "turn-ppo", "ppo"])
def test_credit_and_health_come_before_the_critic_learns(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def spy(module: Any, name: str) -> None:
        original = getattr(module, name)

        def called(*arguments: Any, **keywords: Any) -> Any:
            order.append(name)
            return original(*arguments, **keywords)

        monkeypatch.setattr(module, name, called)

    spy(archer.gathering, "collect")
    for name in ("critic_health", "assign_credit", "update_critic", "update_actor"):
        spy(archer.training, name)
    archer.train(preset_run(preset, TASK, **PLAY), tmp_path / "run")
    warmup = ["collect", "critic_health", "assign_credit", "update_critic"]
    assert order == warmup + 2 * [*warmup, "update_actor"]


@pytest.mark.parametrize("preset", ["grpo", "gigpo"])
def test_groups_play_every_task_several_times(preset: str, trained: Callable[[str], Path]) -> None:
    run = trained(preset)
    seen: set[int] = set()
    for number in (1, 2, 3):
        seeds = Counter(game.seed for game in read_shard(shard_path(run / "episodes", number)))
        assert list(seeds.values()) == [8, 8]
        assert not seen & set(seeds)  # every iteration has tasks of its own
        seen |= set(seeds)
    rows = RunFolder(run).metrics()
    assert not [key for key in rows[-1] if key.startswith("critic/")] and "actor/clipped" in rows[-1]
    assert rows[-1]["rollout/sampled_tokens"] == 0  # it learns from what was said alone


def test_a_run_without_a_critic_keeps_none(trained: Callable[[str], Path]) -> None:
    checkpoint = latest_checkpoint(trained("grpo") / "checkpoints")
    assert checkpoint is not None
    assert {path.name for path in checkpoint.iterdir()} == {
        "actor", "actor_optimizer.safetensors", "manifest.json", "state.json",
    }  # fmt: skip
    with pytest.raises(ValueError, match="has no critic"):
        load_critic(archer.load(trained("grpo")))


def test_on_policy_methods_forget_all_but_the_newest_games(trained: Callable[[str], Path]) -> None:
    run = restore(RunFolder.open(trained("ppo")))
    assert len(run.replay) == 16
    newest = read_shard(shard_path(trained("ppo") / "episodes", 3))
    assert [game.seed for game in run.replay] == [game.seed for game in newest]


@pytest.mark.parametrize(
    "preset",
    ["archer", "ppo", "chai"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("archer-baseline", "gigpo", "grpo", "filtered-bc")],
)
def test_every_kind_of_method_resumes_exactly(preset: str, trained: Callable[[str], Path], tmp_path: Path) -> None:
    whole, halted = trained(preset), tmp_path / "halted"
    archer.train(preset_run(preset, TASK, **PLAY | {"iterations": 2}), halted)
    (halted / "config.yaml").write_text((whole / "config.yaml").read_text())
    archer.train(run=halted, resume=True)
    assert fingerprint(halted) == fingerprint(whole)


def test_in_archer_the_critic_chooses_what_is_played_and_not_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    original = play_best_of

    def counted(count: int, critic: Any, actor: Any, env: Any, seeds: Any, **keywords: Any) -> Any:
        chosen.append(len(seeds))
        return original(count, critic, actor, env, seeds, **keywords)

    monkeypatch.setattr("archer.rollout.best_of.play_best_of", counted)
    archer.train(preset_run("archer", TASK, **PLAY), tmp_path / "run")
    assert chosen == [16] * 3  # three iterations, none of the evaluations


def test_the_critic_chooses_in_every_game_of_chai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    original = play_best_of

    def counted(count: int, *arguments: Any, **keywords: Any) -> Any:
        chosen.append(count)
        return original(count, *arguments, **keywords)

    monkeypatch.setattr("archer.rollout.best_of.play_best_of", counted)
    archer.train(preset_run("chai", TASK, **PLAY), tmp_path / "run")
    assert chosen == [5] * 5  # three iterations, and the evaluations at both ends
    archer.evaluate(archer.load(tmp_path / "run"), episodes=4)
    assert chosen[5:] == [5]
    first, last = (
        tmp_path / "run" / "checkpoints" / step / "actor" / "model.safetensors" for step in ("000000", "000003")
    )
    assert first.read_bytes() == last.read_bytes()  # the actor stays as it was


def test_the_choice_of_a_run_is_a_line_of_its_own_wherever_it_is_measured(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_word(count: int, critic: Any, *arguments: Any, **keywords: Any) -> Any:
        games = play(*arguments, **keywords)
        return [dataclasses.replace(game, turns=game.turns[:1]) for game in games]  # a choice that can be told apart

    monkeypatch.setattr("archer.rollout.best_of.play_best_of", first_word)
    archer.train(preset_run("chai", TASK, **PLAY | {"iterations": 1}), tmp_path / "run")
    run = archer.load(tmp_path / "run")
    found = archer.evaluate(run, episodes=4)
    alone, five, three = (archer.evaluate(run, episodes=4, **how) for how in ({"temperature": 0.0}, {}, {"best_of": 3}))
    assert (found["length"], found["best_of_length"], found["best_of"]) == (2.0, 1.0, 5)
    assert five == found and "best_of" not in alone and alone["length"] == 2.0
    # the start was played with the choice among five: it is no start of the policy alone, or of a choice among three
    before = RunFolder(tmp_path / "run").metrics()[0]["eval/return_mean"]
    assert found["best_of_start_return"] == before and found["start_return"] is alone["start_return"] is None
    assert three["best_of"] == 3 and "best_of_start_return" not in three

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["best_of"] == 5
    assert "the critic's choice among 5" in command("show", str(tmp_path / "run")).out
    collected = command("collect", str(tmp_path / "run"), "--out", str(tmp_path / "c.jsonl"), "--episodes", "2")
    assert "the critic's choice among 5" in collected.out
    assert "return of evaluation games (the critic's choice among 5)" in card(run, adapter=False)


def test_the_summary_of_a_run_whose_critic_does_not_choose_says_so(tmp_path: Path) -> None:
    summary = archer.train(preset_run("archer", TASK, **PLAY | {"iterations": 0}), tmp_path / "run")
    assert summary.best_of == 0 and overview(tmp_path / "run", 0).facts["returns of"] == "the policy alone"
    assert "start_return" in (found := archer.evaluate(archer.load(tmp_path / "run"), episodes=2))
    assert found["start_return"] == summary.start_return and "best_of" not in found


@pytest.mark.parametrize("advantage", ["gae", "group"])
def test_an_actor_that_stays_as_it_is_needs_no_credit(advantage: str, tmp_path: Path) -> None:
    still = {"method": "none", "advantage": advantage}
    config = preset_run("archer-offline", TASK, iterations=1, actor=still, rollout={"group": 2})
    archer.train(config, tmp_path / "run")  # from demonstrations alone: there is no game to give credit for
    assert RunFolder(tmp_path / "run").metrics()[-1]["critic/q_loss"] > 0


def test_a_critic_of_tokens_scores_but_cannot_choose(trained: Callable[[str], Path]) -> None:
    run = archer.load(trained("ppo"))
    with pytest.raises(ValueError, match="values single tokens and has no Q to choose by"):
        archer.evaluate(run, episodes=4, best_of=3)
    rows = RunFolder(trained("ppo")).metrics()
    assert "critic/token_v_loss" in rows[-1] and "critic/q_loss" not in rows[-1]


def test_a_token_baseline_is_saved_in_units_of_the_critic(trained: Callable[[str], Path]) -> None:
    run = restore(RunFolder.open(trained("archer-baseline")))
    assert run.agent.baseline is not None
    assert run.agent.baseline.unit == pytest.approx(run.agent.learned_critic.unit)
    assert float(run.agent.baseline.value.location) == 0.0
    assert not torch.equal(
        *(p.state_dict()["trunk.norm.weight"] for p in (run.agent.baseline, run.agent.learned_critic))
    )


def test_the_summary_says_what_was_trained(tmp_path: Path) -> None:
    archer.train(preset_run("bc", TASK, iterations=0), tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["games"] == 0 and summary["demonstrations"] == 64
    assert summary["start_return"] == summary["return_mean"]  # cloned, measured, and nothing else


@pytest.mark.parametrize("capacity", [0, 31, 33, 1000])
def test_a_resumed_replay_holds_what_the_uninterrupted_one_did(
    capacity: int, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("archer"), run)
    (run / "config.yaml").write_text(to_yaml(preset_run("archer", TASK, **PLAY, replay_turns=capacity)))
    kept = Replay(capacity)
    for number in (1, 2, 3):  # 16 games of two turns each
        kept.add(read_shard(shard_path(run / "episodes", number)))
    resumed = restore(RunFolder.open(run)).replay
    assert [game.seed for game in resumed] == [game.seed for game in kept] and resumed.turns == kept.turns


@pytest.mark.parametrize(("first", "second", "taken"), [("ppo", "turn-ppo", False), ("turn-ppo", "archer", True)])
def test_a_critic_of_tokens_is_not_taken_for_one_of_utterances(
    first: str, second: str, taken: bool, tmp_path: Path
) -> None:
    """Its Q has never been trained: the critic's start has to."""
    archer.train(preset_run(first, TASK, **PLAY | {"iterations": 1}), tmp_path / "first")
    none = {"actor_start": {"epochs": 0}, "critic_start": {"epochs": 0}, "iterations": 0}
    archer.train(preset_run(second, TASK, **PLAY | none, start_from=str(tmp_path / "first")), tmp_path / "second")
    found = [
        load_file(checkpoint / "critic.safetensors")
        for name in ("first", "second")
        if (checkpoint := latest_checkpoint(tmp_path / name / "checkpoints")) is not None
    ]
    assert all(torch.equal(found[0][name], weight) for name, weight in found[1].items()) is taken


def test_demonstrations_keep_how_likely_the_cloned_actor_finds_them(tmp_path: Path) -> None:
    """For a later run with Retrace, whose actor is another by then."""
    archer.train(preset_run("ppo", TASK, **PLAY | {"iterations": 1}), tmp_path / "run")
    shown = read_shard(RunFolder(tmp_path / "run").demonstrations_file)
    assert np.isfinite(np.concatenate([game.logprobs for game in shown])).all()
