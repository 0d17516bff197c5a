"""Numbers that are not finite, trackers that are not there, and logs that are damaged."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from archer.metrics import MetricLog, at_limit, episode_metrics, make_tracker, mean_ci95
from archer.storage.metricsfile import read_metrics, truncate_metrics
from archer.types import End, Episode, Turn, Utterance


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    log.log(1, {"critic/q_loss": math.nan, "critic/v_loss": 0.5, "eval/return_ci95": math.inf})
    log.log(2, {"critic/v_loss": 0.25})
    log.close()
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first) == {
        "iteration": 1, "critic/q_loss": None, "critic/v_loss": 0.5, "eval/return_ci95": None,
        "not_finite": ["critic/q_loss", "eval/return_ci95"],
    }  # fmt: skip
    assert json.loads(second) == {"iteration": 2, "critic/v_loss": 0.25}
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize(
    "end", [b'{"iteration": 2, "critic/q_lo', b"{", b"\0\0\0\0"], ids=["a key", "a brace", "zeros of a lost write"]
)
def test_a_last_line_cut_off_by_a_kill_is_left_out(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": 1}\n' + end)
    assert read_metrics(path) == [{"iteration": 1}]


@pytest.mark.parametrize("line", [b"\xff\xfe", b'{"iteration": 2', b"3", b'{"loss": 1.0}'])
def test_damage_elsewhere_is_reported_with_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": 1}\n' + line + b'\n{"iteration": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not"):
        read_metrics(path)


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[wandb\]'"):
        make_tracker("wandb", "run", {})


def test_a_tracker_that_talks_leaves_standard_output_to_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[object] = []

    def talk(*what: object, **named: object) -> None:
        print("* dashboard")
        heard.append(what or named)

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=talk, log=talk, finish=talk))
    tracker = make_tracker("trackio", "runs/a", {"seed": 1})
    tracker.log(3, {"eval/return_mean": -4.0})
    tracker.close()
    assert heard[:2] == [
        {"project": "archer", "name": "runs/a", "config": {"seed": 1}},
        ({"eval/return_mean": -4.0, "iteration": 3},),
    ]
    assert capsys.readouterr() == ("", "* dashboard\n" * 3)


def test_one_value_has_no_interval() -> None:
    assert mean_ci95([3.0]) == (3.0, math.inf)


def test_what_a_resumed_run_logs_again_stands_once_in_tensorboard(tmp_path: Path) -> None:
    first = MetricLog(tmp_path)
    for iteration in (1, 2, 3):
        first.log(iteration, {"loss": 1.0})
    first.close()
    truncate_metrics(tmp_path / "metrics.jsonl", 1)  # the checkpoint of iteration 1 was the last one
    second = MetricLog(tmp_path)
    second.log(2, {"loss": 2.0})
    second.close()
    newest = max((tmp_path / "tensorboard").iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))
    # TensorBoard drops what was logged from the step of a START event on.
    assert [event.step for event in _events(newest) if event.session_log.status == SessionLog.START] == [2]


def _events(path: Path) -> Iterator[Event]:
    """The records of an event file: length (8 bytes), its checksum (4), an event, its checksum (4)."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16


def test_metrics_survive_a_kill_and_are_taken_back(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    for iteration in range(3):
        log.log(iteration, {"a": float(iteration), "b": float("nan")})
    log.close()
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"iteration": 3, "a"')
    assert [row["iteration"] for row in read_metrics(path)] == [0, 1, 2]
    assert read_metrics(path)[0]["b"] is None
    truncate_metrics(path, 1)
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [0, 1]
    path.write_text('{"iteration": 0}\nnonsense\n{"iteration": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)


def test_intervals_by_hand() -> None:
    # mean 2, sample variance 1, 1.96 · 1/√3
    assert mean_ci95([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1.1316), abs=1e-4)


def _game(*logprobs: list[float]) -> Episode:
    prompt = np.arange(3, dtype=np.int32)
    said = [Utterance(np.zeros(len(one), np.int32), np.array(one, np.float32), "x") for one in logprobs]
    turns = tuple(Turn(prompt, one, "?", 0.0) for one in said)
    return Episode(turns, End.TERMINATED, prompt, seed=0, task="toy", policy_version=0)


def _returning(seed: int, return_: float) -> Episode:
    prompt = np.arange(3, dtype=np.int32)
    said = Utterance(np.zeros(1, np.int32), np.zeros(1, np.float32), "x")
    return Episode((Turn(prompt, said, "?", return_),), End.TERMINATED, prompt, seed=seed, task="toy", policy_version=0)


def test_games_of_one_seed_count_as_one_for_the_interval() -> None:
    # seed 7: 1 and 3, seed 9: 5 and 7; means 2 and 6, sample deviation √8, 1.96 · √8/√2 = 3.92
    games = [_returning(7, 1.0), _returning(9, 5.0), _returning(7, 3.0), _returning(9, 7.0)]
    found = episode_metrics(games, "rollout")
    assert (found["rollout/return_mean"], found["rollout/return_ci95"]) == pytest.approx((4.0, 3.92))
    assert episode_metrics(games[::2], "rollout")["rollout/return_ci95"] == math.inf  # of other seeds they say nothing
    # Where every seed occurs once, all games count: the values' own interval.
    once = episode_metrics([_returning(seed, return_) for seed, return_ in enumerate((1.0, 2.0, 3.0))], "eval")
    assert (once["eval/return_mean"], once["eval/return_ci95"]) == mean_ci95([1.0, 2.0, 3.0])


def test_the_interval_of_games_in_groups_covers_the_mean_as_often_as_it_says() -> None:
    """Twelve tasks, eight games of each: 1.96 deviations of a mean of twelve cover it in 92 % of draws."""
    chance, covered = np.random.default_rng(0), 0
    for _ in range(200):
        tasks = chance.normal(0.0, 4.0, 12)
        returns = tasks[:, None] + chance.normal(0.0, 1.0, (12, 8))
        games = [_returning(seed, float(value)) for seed, own in enumerate(returns) for value in own]
        found = episode_metrics(games, "x")
        covered += abs(found["x/return_mean"]) <= found["x/return_ci95"]
    assert 0.87 <= covered / 200 <= 0.97


def test_the_entropy_is_the_mean_surprise_of_a_token() -> None:
    # 1 + 2 + 3 + 0.5 over four tokens, of whichever game and turn
    found = episode_metrics([_game([-1.0, -2.0], [-3.0]), _game([-0.5])], "rollout")
    assert found["rollout/entropy"] == pytest.approx(6.5 / 4)
    # A person's or a script's words have no log-probability.
    assert episode_metrics([_game([-1.0], [math.nan])], "x")["x/entropy"] == pytest.approx(1.0)
    assert "x/entropy" not in episode_metrics([_game([math.nan])], "x")


def test_utterances_as_long_as_they_may_be_are_counted() -> None:
    games = [_game([-1.0] * 3, [-1.0] * 2), _game([-1.0] * 3, [-1.0])]  # two of four
    assert at_limit(games, 3) == 0.5 and at_limit(games, 4) == 0.0


def test_of_an_even_choice_the_entropy_is_the_logarithm_of_the_choices() -> None:
    games = [_game([-math.log(8.0)] * 5) for _ in range(3)]
    assert episode_metrics(games, "eval")["eval/entropy"] == pytest.approx(math.log(8.0))
