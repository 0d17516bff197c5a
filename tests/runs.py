"""Runs that take seconds: their settings, what they came to, and runs that are stopped on their way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import archer
from archer.config import RunConfig
from archer.config.layers import Layer, overlay
from archer.recipe import compose
from archer.resuming import save
from archer.storage.checkpoint import latest_checkpoint
from archer.storage.runfolder import RunFolder

SMALL: dict[str, Any] = {
    "env": {"name": "tests.worlds:TwoSteps"},
    "model": {"tiny": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 300}},
    "demonstrations": {"games": 64},
    "supervised": {"epochs": 20, "batch_games": 16, "lr": 5e-3},
    "rollout": {"games": 16, "parallel": 8, "utterance_tokens": 6, "max_tokens": 64},
    "critic_start": {"epochs": 1},
    "critic": {"updates": 4, "batch_turns": 32, "lr": 3e-3, "demonstrations": 0.25},
    "actor": {"updates": 2, "batch_turns": 32, "lr": 3e-3, "kl": 0.01},
    "eval": {"every": 2, "games": 8, "final_games": 32},
    "iterations": 4,
    "warmup": 1,
    "threads": 1,
}
"""Of the defaults, on a task of two turns."""
TASK: dict[str, Any] = {
    "model": {"actor": None, "critic_model": None, "tiny": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 300}},
    "demonstrations": {"games": 64},
    "supervised": {"epochs": 20, "batch_games": 16, "lr": 5e-3, "matrix_lr": 0.01},
    "rollout": {"parallel": 16, "utterance_tokens": 6, "max_tokens": 64, "layout": "transcript"},
    "critic": {"updates": 6, "batch_turns": 32, "accumulation": 1, "lr": 3e-3, "matrix_lr": 0.0},
    "actor": {"updates": 2, "batch_turns": 32, "accumulation": 1, "lr": 1e-3, "matrix_lr": 0.0},
    "eval": {"every": 0, "final_games": 200},
    "threads": 1,
}
"""The same for presets: a model that learns such a task with the steps it has."""
BRIEF: dict[str, Any] = {
    "iterations": 4, "warmup": 1, "supervised": {"epochs": 2}, "critic": {"updates": 2}, "actor": {"updates": 1},
    "eval": {"final_games": 40},
}  # fmt: skip
"""So little of that that nothing is learned."""


def small_run(**changes: Any) -> RunConfig:
    """The default method in small."""
    return overlay(overlay(RunConfig(), SMALL, "test"), changes, "test")


def preset_run(preset: str, env: str | None, *files: Path, more: Sequence[Layer] = (), **changes: Any) -> RunConfig:
    """A preset in small, of an environment or of ``files``."""
    layers = [
        Layer(TASK, "test"),
        Layer({"demonstrations": {"files": [str(file) for file in files], "games": None}} if files else {}, "test"),
        Layer(BRIEF, "test"),
        Layer(changes, "test"),
    ]
    return compose([*layers, *more], preset=preset, env=env)


def fingerprint(run: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Checksums of all weights and optimizer states of the last checkpoint, and metrics without times."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    sums: dict[str, str] = json.loads((checkpoint / "manifest.json").read_text())["sha256"]
    rows = [
        {key: value for key, value in row.items() if not key.startswith("time/")} for row in RunFolder(run).metrics()
    ]
    return {name: value for name, value in sums.items() if name.endswith((".safetensors", "state.json"))}, rows


def stop_and_resume(config: RunConfig, run: Path, saves: int, where: str = "archer.training") -> None:
    """A run that is interrupted after so many checkpoints of its iterations, or of what it learns before them
    (``archer.starting``), and goes on."""

    def stop(*arguments: Any) -> None:
        nonlocal saves
        save(*arguments)
        saves -= 1
        if not saves:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{where}.save", stop)
        with pytest.raises(KeyboardInterrupt):
            archer.train(config, run)
    archer.train(run=run, resume=True)
