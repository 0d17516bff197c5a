"""Every method learns a task of two turns in which only the first choice matters and is paid at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import archer
from archer.config import RunConfig
from archer.settings import overlay
from tests.test_training import SMALL


def _learned(settings: dict[str, Any], run: Path) -> tuple[float, float]:
    """Share of games won by the supervised start and after training."""
    config = overlay(
        overlay(RunConfig(), SMALL, "test"),
        {
            "iterations": 45,
            "warmup": 3,
            "critic": {"updates": 10, "lr": 1e-3, "trace": 0.9, **settings.get("critic", {})},
            "actor": {"lr": 1e-3, "kl": 0.02, **settings.get("actor", {})},
            "eval": {"every": 0, "final_games": 200},
        },
        "test",
    )
    summary = archer.train(config, run)
    return summary.start_return, summary.return_mean


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="td, reinforce"),
        pytest.param({"critic": {"method": "sarsa"}}, id="sarsa"),
        pytest.param({"critic": {"method": "iql"}}, id="iql"),
        pytest.param({"critic": {"method": "mc"}}, id="mc"),
        pytest.param({"actor": {"method": "ppo", "epochs": 2}}, id="ppo"),
        pytest.param({"actor": {"method": "awr", "beta": 4.0, "kl": 0.0}}, id="awr"),
        pytest.param({"actor": {"method": "filtered", "kl": 0.0}}, id="filtered"),
    ],
)
def test_every_method_learns_which_first_word_is_paid_at_the_end(settings: dict[str, Any], tmp_path: Path) -> None:
    start, end = _learned(settings, tmp_path / "run")
    # Four words at random win a quarter of the games.
    assert start < 0.45
    assert end > 0.8
