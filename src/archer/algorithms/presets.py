"""Presets: named combinations of settings, recommended or published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A combination of settings; ``settings(env)`` gives what differs from the defaults for a task."""

    description: str
    settings: Callable[[str | None], Mapping[str, Any]]


def _archer(env: str | None) -> Mapping[str, Any]:
    if env == "twenty-questions":  # many more objects to know: more examples, a critic that begins with them
        return {
            "env": {"name": env},
            "model": {"tiny": {"vocabulary": 4096, "layers": 2}},
            "supervised": {"games": 40_000, "batch_games": 16, "epochs": 2},
            "rollout": {"utterance_tokens": 8, "layout": "minutes"},
            "critic_start": {"epochs": 1},
            "critic": {"batch_turns": 192, "lr": 3e-4, "matrix_lr": 5e-4, "discount": 0.95, "demonstrations": 0.5},
            "actor": {"updates": 8, "batch_turns": 384, "newest_turns": 3500, "lr": 2e-4, "kl": 0.15},
            "replay_turns": 15_000,
            "iterations": 60,
        }
    return {"env": {"name": env}}


def _archer_paper(env: str | None) -> Mapping[str, Any]:
    """Zhou et al. 2024, appendix table of hyper-parameters and released configuration.

    γ is .95 and the warm-up 20 iterations on Twenty Questions, 10 on its ten-object subset.
    """
    full = env == "twenty-questions"
    return {
        "env": {"name": env},
        "model": {"actor": "gpt2", "critic": "encoder", "critic_model": "roberta-base"},
        "supervised": {"batch_games": 32, "lr": 1e-4, "matrix_lr": 0.0, "epochs": 4, "answer_weight": 0.0},
        "rollout": {"games": 128, "layout": "plain", "utterance_tokens": 32, "max_tokens": 1024},
        "critic": {
            "updates": 50,
            "batch_turns": 256,
            "lr": 2e-5,
            "matrix_lr": 0.0,
            "weight_decay": 0.01,
            "discount": 0.95,
            "trace": 0.0,
            "answer_weight": 0.0,
            "polyak": 0.1,
        },
        "actor": {
            "updates": 3,
            "batch_turns": 256,
            "accumulation": 32,
            "newest_turns": 100_000,
            "siblings": 1,
            "advantage": "value",
            "lr": 1e-6 if full else 1e-5,
            "weight_decay": 0.01,
            "kl": 0.0,
        },
        "eval": {"every": 25, "games": 1000},
        "replay_turns": 100_000,
        "warmup": 20 if full else 10,
        "iterations": 600,
    }


PRESETS: dict[str, Preset] = {
    "archer": Preset("Our default: causal critic, λ-returns, sibling baseline, KL to the supervised start.", _archer),
    "archer-paper": Preset(
        "Online ArCHer as published: GPT-2, RoBERTa critic, one-step TD, one sample per state (Zhou et al. 2024).",
        _archer_paper,
    ),
}
