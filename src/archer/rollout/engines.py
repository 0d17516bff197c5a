"""Engines: what says the utterances of games. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from archer.config import RunConfig
from archer.rollout.server_engine import ServerEngine
from archer.rollout.speaking import BUILT_IN, Speaker
from archer.rollout.vllm_engine import VllmEngine

ENGINES: dict[str, Callable[[RunConfig], Speaker]] = {
    "built-in": lambda config: BUILT_IN,
    "vllm": VllmEngine,
    "server": ServerEngine,
}
"""By their names in the settings. ValueError or EngineError for one that cannot be had."""


def engine_of(config: RunConfig) -> Speaker:
    """The engine that a run's settings name."""
    return ENGINES[config.rollout.engine](config)
