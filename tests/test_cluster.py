"""Runs whose games are played on a Ray cluster: the same as elsewhere, and exact whatever dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import archer
from archer.cluster.joining import Cluster
from archer.config import RunConfig
from archer.config.layers import ConfigError, overlay
from archer.rollout.seat import EnvironmentFailure
from archer.seeds import training_seed
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard
from tests.conftest import Command
from tests.machines import Machines, machines
from tests.runs import fingerprint, small_run

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("cluster")  # one cluster for all that need one
FAR = {"policy_lag_max", "iterations_behind", "iterations_behind_max", "players"}
"""Metrics of runs on a cluster alone."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    with machines(3) as ours:
        yield ours


QUICK: dict[str, Any] = {
    "cluster": {"chunk": 4},
    "rollout": {"best_of": 0},
    "supervised": {"epochs": 1},
    "critic": {"updates": 1},
    "actor": {"updates": 1},
    "eval": {"every": 0, "final_games": 4},
}


def _far(seconds: float = 0.0, until: str = "", **changes: Any) -> RunConfig:
    """A small run in chunks of four games, whose environment takes so long for each step, until there is a file."""
    slow = {"env": {"name": "tests.worlds:Slow", "options": {"seconds": seconds, "until": until}}}
    return overlay(overlay(small_run(**QUICK), slow, "test"), changes, "test")


def _check_account(run: Path) -> None:
    """Every game number was learned from once, as the metrics say; and what was acknowledged beyond is still there."""
    folder = RunFolder(run)
    config = folder.config()
    rows = [row for row in folder.metrics() if row["iteration"]]
    assert [row["iteration"] for row in rows] == list(range(1, config.iterations + 1))
    assert [row["games"] for row in rows] == [config.rollout.games * row["iteration"] for row in rows]
    learned = Counter(
        episode.seed for shard in sorted(folder.episodes.glob("*.parquet")) for episode in read_shard(shard)
    )
    played = config.rollout.games * config.iterations
    assert learned == Counter(training_seed(config.seed, game) for game in range(played))
    assert max(row["rollout/iterations_behind_max"] for row in rows) <= config.cluster.lag
    events = [json.loads(line) for line in (run / "ledger" / "journal.jsonl").read_text().splitlines()]
    taken = [chunk for event in events if "chunks" in event for chunk in event["chunks"]]
    assert sorted(taken) == sorted(event["chunk"] for event in events if "chunk" in event) == list(range(played // 4))


def _when(condition: Callable[[], bool], patience: float = 300.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def _acknowledged(run: Path) -> int:
    journal = run / "ledger" / "journal.jsonl"
    return journal.read_text().count('"chunk":') if journal.exists() else 0


CHOSEN: dict[str, Any] = {"eval": {"every": 2, "games": 8, "final_games": 8, "best_of": 2}}
"""The critic chooses what is said, evaluations included."""
IN_STEP: dict[str, Any] = {"cluster": {"chunk": 4, "lag": 0}}


def _check_same(there: Path, here: Path) -> None:
    """To the last bit: weights, optimizers, metrics."""
    weights, rows = fingerprint(there)
    own = [{key: row.pop(key) for key in list(row) if key.partition("/")[2] in FAR} for row in rows]
    assert (weights, rows) == fingerprint(here)
    assert {row["rollout/iterations_behind_max"] for row in own if row} == {0.0}
    _check_account(there)


def test_without_lag_a_run_is_the_same_as_without_a_cluster(cluster: Machines, tmp_path: Path) -> None:
    config = small_run(**CHOSEN, iterations=2)
    archer.train(config, tmp_path / "here")
    archer.train(overlay(config, IN_STEP, "test"), tmp_path / "there", cluster=Cluster(cluster.address, 1))
    _check_same(tmp_path / "there", tmp_path / "here")


@pytest.mark.slow
def test_it_is_the_same_even_if_players_and_ledger_die(cluster: Machines, tmp_path: Path) -> None:
    over = tmp_path / "over"  # until then, each step takes its time
    over.touch()
    slow = {"env": {"name": "tests.worlds:Slow", "options": {"seconds": 0.2, "until": str(over)}}}
    config = overlay(small_run(**CHOSEN), slow, "test")
    archer.train(config, tmp_path / "here")
    over.unlink()
    there = tmp_path / "there"
    with ThreadPoolExecutor(1) as learner:
        trained = learner.submit(
            archer.train, overlay(config, IN_STEP, "test"), there, cluster=Cluster(cluster.address, 2)
        )
        try:
            for kind in ("PlayerActor", "LedgerActor"):
                before = _acknowledged(there)
                _when(lambda before=before: trained.done() or _acknowledged(there) > before)  # type: ignore[misc]
                cluster.kill(kind)
        finally:
            over.touch()
        trained.result()
    _check_same(there, tmp_path / "here")


@pytest.mark.slow
def test_machines_join_and_leave_while_players_and_the_ledger_die(cluster: Machines, tmp_path: Path) -> None:
    """One thing after another, each followed by some more games; the run is slow until all has happened."""
    run, over = tmp_path / "run", tmp_path / "over"

    def goes_on() -> None:
        before = _acknowledged(run)
        _when(lambda: _acknowledged(run) >= before + 3)

    with ThreadPoolExecutor(1) as learner:
        config = _far(0.3, str(over), iterations=60)
        summary = learner.submit(archer.train, config, run, cluster=Cluster(cluster.address))
        try:
            goes_on()
            killed = cluster.kill("PlayerActor")
            _when(lambda: killed not in (there := cluster.processes("PlayerActor")) and len(there) == 2)
            ledger = cluster.kill("LedgerActor")
            _when(lambda: ledger not in (there := cluster.processes("LedgerActor")) and len(there) == 1)
            goes_on()
            machine = cluster.join(2)
            _when(lambda: len(cluster.processes("PlayerActor")) == 4)
            goes_on()
            cluster.leave(machine)
            goes_on()
        finally:
            over.touch()
        assert summary.result().games == 60 * 16
    _check_account(run)
    assert max(row["rollout/players"] for row in RunFolder(run).metrics() if row["iteration"]) >= 3
    _when(lambda: not cluster.processes("PlayerActor") and not cluster.processes("LedgerActor"))


def _in_a_process(run: Path, address: str) -> subprocess.Popen[bytes]:
    """The learner of a run, as a process of its own."""
    code = (
        "import sys; from pathlib import Path; import archer; from archer.cluster.joining import Cluster; "
        "from tests.test_cluster import _far; "
        f"archer.train(_far(0.1, iterations=12), {str(run)!r}, cluster=Cluster({address!r}, 2))"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent)


@pytest.mark.slow
def test_a_learner_that_was_killed_goes_on_with_what_was_acknowledged(cluster: Machines, tmp_path: Path) -> None:
    run = tmp_path / "run"
    learner = _in_a_process(run, cluster.address)
    try:
        _when(lambda: _acknowledged(run) >= 10)
    finally:
        learner.send_signal(signal.SIGKILL)
        learner.wait()
    before = (run / "ledger" / "journal.jsonl").read_text()
    archer.train(run=run, resume=True, cluster=Cluster(cluster.address, 2))
    _check_account(run)
    after = (run / "ledger" / "journal.jsonl").read_text()
    assert after.startswith(before[: before.rindex("\n") + 1]), "what was acknowledged was lost"
    (run / "ledger" / "journal.jsonl").unlink()
    with pytest.raises(RuntimeError, match="knows of 0 iterations and the checkpoint of 12"):
        archer.train(run=run, resume=True, cluster=Cluster(cluster.address, 2))


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        pytest.param(
            "raise", EnvironmentFailure, "failed in 4 of 4 games .*the shop is closed", marks=pytest.mark.slow
        ),
        ("long", ValueError, r"rollout\.max_tokens=64 is too small"),
    ],
)
def test_what_goes_wrong_at_a_player_stops_the_run_and_is_told(
    fault: str, error: type[Exception], reason: str, cluster: Machines, tmp_path: Path
) -> None:
    broken = {"env": {"name": "tests.worlds:Broken", "options": {"fault": fault}}}
    with pytest.raises(error, match=reason):
        archer.train(overlay(small_run(**QUICK), broken, "test"), tmp_path / "run", cluster=Cluster(cluster.address, 1))


@pytest.mark.slow
def test_after_the_end_of_its_cluster_a_run_goes_on_in_another(cluster: Machines, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with machines(3) as doomed:
        learner = _in_a_process(run, doomed.address)
        _when(lambda: _acknowledged(run) >= 10)
        doomed.end()
        assert learner.wait(120) != 0
    archer.train(run=run, resume=True, cluster=Cluster(cluster.address, 2))
    _check_account(run)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster": {"lag": 2}}, "say nothing in a run that is on none"),
        ({"cluster": {"chunk": 4}, "rollout": {"overlap": True, "best_of": 0}}, "set rollout.overlap=false"),
        (
            {
                "cluster": {"chunk": 4},
                "rollout": {"best_of": 0},
                "replay_turns": 0,
                "actor": {"method": "reinforce", "demonstrations": 0.0},
            },
            "set cluster.lag=0",
        ),
        ({"cluster": {"chunk": 4, "gpus": 0.5}}, "do not go together"),
        ({"cluster": {"chunk": 4}, "device": "cuda"}, "do not go together"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        small_run(**changes)


def test_chunks_are_equal_shares_in_whole_groups() -> None:
    share = small_run(cluster={"chunk": 16}).cluster.share
    assert [share(192, 1), share(100, 1), share(24, 8), share(24, 12), share(48, 24), share(7, 1)] == [
        16,
        10,
        8,
        12,
        24,
        7,
    ]


def test_runs_on_a_cluster_and_elsewhere_are_not_taken_for_each_other(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(ValueError, match="say which"):
        archer.train(_far(), tmp_path / "run")
    with pytest.raises(ValueError, match="leave out --cluster"):
        archer.train(small_run(), tmp_path / "run", cluster=Cluster("local", 1))
    with pytest.raises(ValueError, match="leave out --cluster"):
        archer.train(run=trained, resume=True, cluster=Cluster("local", 1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--workers", "2"), "add --cluster"),
        (("--cluster", "local", "--workers", "0"), "at least 1 player"),
        (("--cluster", "127.0.0.1:1"), "nobody answers there"),
        (("--cluster", "127.0.0.1:none"), "nobody answers there"),
        (("--cluster", "ray://127.0.0.1:10001"), "must run on a machine of the cluster"),
        (
            ("--cluster", "local", "--set", "rollout.games=0", "critic.demonstrations=1", "actor.demonstrations=1"),
            "nothing to do",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(
    arguments: tuple[str, ...], reason: str, command: Command, tmp_path: Path
) -> None:
    done = command("train", "--env", "guess-number", "--run", str(tmp_path / "run"), *arguments)
    assert done.code == 2 and reason in done.err
    assert not (tmp_path / "run").exists()


def test_without_ray_its_extra_is_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command("train", "--cluster", "local", "--run", str(tmp_path / "run"))
    assert done.code == 2 and "pip install -e '.[cluster]'" in done.err
