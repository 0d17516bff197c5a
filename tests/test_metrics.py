"""Numbers that are not finite, trackers that are not there, and logs that are damaged."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from archer.metrics import MetricLog, make_tracker, mean_ci95, read_metrics


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
    with pytest.raises(ValueError, match=r"pip install 'archer\[wandb\]'"):
        make_tracker("wandb", "run", {})


def test_one_value_has_no_interval() -> None:
    assert mean_ci95([3.0]) == (3.0, math.inf)
