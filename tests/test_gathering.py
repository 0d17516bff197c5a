"""Playing while the learner updates: what is played when, by which weights, and after a stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import archer
from archer.algorithms.critic import update_critic
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard, shard_path
from tests.runs import fingerprint, small_run, stop_and_resume
from tests.worlds import TwoSteps

OVERLAP: dict[str, Any] = {"games": 16, "overlap": True, "best_of": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    archer.train(small_run(rollout=OVERLAP), run)
    return run


def test_games_are_one_iteration_behind_and_say_so(whole: Path) -> None:
    """One iteration of warm-up, then two actor updates each: 0 0 2 4 when the four iterations begin."""
    episodes = RunFolder.open(whole).episodes
    assert [read_shard(shard_path(episodes, number))[0].policy_version for number in (1, 2, 3, 4)] == [0, 0, 0, 2]
    assert [row["rollout/policy_lag"] for row in RunFolder(whole).metrics() if row["iteration"]] == [0, 0, 2, 2]


def test_a_stopped_run_goes_on_as_it_would_have(whole: Path, tmp_path: Path) -> None:
    """Stopped after three iterations, while the last games are being played with weights of the third."""
    stop_and_resume(small_run(rollout=OVERLAP), tmp_path / "run", saves=3)
    assert fingerprint(tmp_path / "run") == fingerprint(whole)


def test_the_next_games_are_played_while_the_critic_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side goes on before it has met the other."""
    learning, played, begun = threading.Event(), threading.Event(), 0

    class Waits(TwoSteps):
        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
            nonlocal begun
            begun += threading.current_thread().name.startswith("player")
            return super().reset(seed=seed, options=options)

        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            if begun > OVERLAP["games"]:  # those of the second iteration
                assert learning.wait(60), "the critic did not learn meanwhile"
                played.set()
            return super().step(utterance)

    def update(*arguments: Any, **options: Any) -> dict[str, float]:
        learning.set()
        assert played.wait(60), "no game was played meanwhile"
        return update_critic(*arguments, **options)

    monkeypatch.setattr("archer.training.update_critic", update)
    archer.train(small_run(rollout=OVERLAP, iterations=2, warmup=2), tmp_path / "run", env=Waits)


def test_an_environment_that_fails_meanwhile_stops_the_run(tmp_path: Path) -> None:
    class Fails(TwoSteps):
        games = 0

        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            Fails.games += 1
            if Fails.games > 400:  # 64 demonstrations of two turns, 64 games measured at the start, 16 an iteration
                raise OSError("the server is gone")
            return super().step(utterance)

    with pytest.raises(RuntimeError, match="the server is gone"):
        archer.train(small_run(rollout=OVERLAP, iterations=40), tmp_path / "run", env=Fails)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rollout": OVERLAP | {"best_of": 4}}, "asks the critic while games are played"),
        (
            {"rollout": OVERLAP, "actor": {"method": "reinforce", "demonstrations": 0.0}},
            "the one that played is an iteration old",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        small_run(**changes)
