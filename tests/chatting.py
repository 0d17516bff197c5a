"""A chat model that was fine-tuned on chats of ``TwoSteps``, as somebody would bring it, and what it goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import archer
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.operations.exporting import export
from tests.families import save_family
from tests.runs import TASK

WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
CHAT: dict[str, Any] = {
    "env": {"name": "tests.worlds:TwoSteps"},
    "rollout": {"layout": "chat", "max_tokens": 160, "utterance_tokens": 8, "games": 16},
    "iterations": 5,
    "warmup": 1,
}
CLONED: dict[str, Any] = {
    "iterations": 0, "actor_start": {"epochs": 0}, "critic_start": {"epochs": 0}, "rollout": {"best_of": 0},
    "critic": {"method": "none"}, "actor": {"method": "none"},
}  # fmt: skip
REINFORCED: dict[str, Any] = {
    "supervised": {"epochs": 0}, "critic_start": {"lr": 5e-3}, "actor_start": {"lr": 5e-3},
    "critic": {"lr": 3e-3}, "actor": {"lr": 3e-3},
}  # fmt: skip


def fine_tune(path: Path, sizes: dict[str, int] = WIDE, rank: int = 8, **changes: Any) -> tuple[RunConfig, float]:
    """Fine-tune a random model in full and export it to ``path / "model"``; the settings that reinforce it through
    adapters, with ``changes`` that hold for both, and its return before that."""
    base = {"model": {"actor": str(save_family("qwen2", path / "base", **sizes))}}
    config = RunConfig()
    for settings in (TASK, base, CHAT, changes):
        config = overlay(config, settings, "test")
    start = archer.train(overlay(config, CLONED, "test"), path / "cloned")
    assert start.return_mean is not None
    export(path / "cloned", path / "model", merge=False)
    model = {"model": {"actor": str(path / "model"), "lora": {"rank": rank}}}
    return overlay(overlay(config, REINFORCED, "test"), model, "test"), start.return_mean
