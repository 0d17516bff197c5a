"""vLLM as the engine: with the real one where it is installed, else with a stand-in that minds its interface.

The real one on a processor cannot begin in a process that has compiled kernels of ours: let each test have its own.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archer
from archer.beginning import begin_actor
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.envs.base import Environment
from archer.models.actor import Actor
from archer.rollout.best_of import play_best_of
from archer.rollout.chat import Chat
from archer.rollout.engines import engine_of
from archer.rollout.play import Limits, play
from archer.rollout.sampling import Sampling
from archer.rollout.speaking import Speaker
from archer.storage.runfolder import RunFolder
from archer.types import Episode
from tests import fake_vllm
from tests.chatting import fine_tune
from tests.critics import Counts
from tests.families import save_sure
from tests.worlds import Echo

REAL = importlib.util.find_spec("vllm") is not None
LIMITS = Limits(max_turns=4, max_tokens=160, parallel=4)
SAMPLING = Sampling(max_tokens=6, temperature=0.8)
ROUNDING = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _vllm() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        if not REAL:
            fake_vllm.install(patch)
        yield
        for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_STREAM", "VLLM_LOGGING_LEVEL"):
            os.environ.pop(name, None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with tied embeddings that is sure of what it says."""
    heads = {"hidden_size": 64, "head_dim": 32}  # vLLM's kernels on a processor take no smaller ones
    return save_sure("qwen2", tmp_path_factory.mktemp("base"), **heads)


def _config(base: Path, **changes: Any) -> RunConfig:
    settings = {
        "env": {"name": "tests.worlds:Echo"},
        "model": {"actor": str(base)},
        "rollout": {
            "engine": "vllm", "layout": "chat", "max_tokens": 160, "utterance_tokens": 6, "best_of": 0,
            "vllm": {"enforce_eager": True},
        },
        "demonstrations": {"games": 0}, "critic_start": {"epochs": 0}, "actor_start": {"epochs": 0},
    }  # fmt: skip
    return overlay(overlay(RunConfig(), settings, "test"), changes, "test")


def _played(
    actor: Actor, speaker: Speaker, seeds: list[int], sampling: Sampling = SAMPLING, make: Any = Echo
) -> list[Episode]:
    return play(
        actor, make, seeds, task="echo", sampling=sampling, limits=LIMITS, layout=Chat, speaker=speaker
    )  # fmt: skip


def _ids(episodes: list[Episode]) -> list[list[int]]:
    return [episode.final_prompt_ids.tolist() for episode in episodes]


def _gap(episodes: list[Episode]) -> float:
    return float(np.concatenate([episode.engine_gap for episode in episodes]).max())


def _disturb(actor: Actor) -> None:
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("rank", [0, 4])
def test_vllm_speaks_for_the_actor_as_it_is(rank: int, base: Path) -> None:
    config = _config(base, model={"lora": {"rank": rank}})
    actor, engine = begin_actor(config, []), engine_of(config)
    once, again = _played(actor, engine, [3, 8, 3]), _played(actor, engine, [3, 8, 3])
    assert 0 < _gap(once) < ROUNDING and _ids(once) == _ids(again)
    assert _ids(once)[0] != _ids(once)[2]  # the same seed a second time

    _disturb(actor)
    words = [token for token in range(len(actor.tokenizer)) if actor.tokenizer.decode([token]).strip().isalpha()]
    silent = [token for token in range(actor.vocabulary) if token not in {*words, actor.stop_id}]
    actor.suppress(silent)
    moved = _played(actor, engine, [3, 8, 3])
    assert _gap(moved) < ROUNDING and _ids(moved) != _ids(once)
    said = [turn.utterance for game in moved for turn in game.turns]
    assert not set(silent) & {int(token) for utterance in said for token in utterance.ids}

    for sampling in (
        Sampling(max_tokens=12, temperature=0.0),
        Sampling(max_tokens=12, temperature=0.0, stop=("e", "r", "s")),
    ):
        there = _played(actor, engine, [4, 9], sampling)
        here = play(actor, Echo, [4, 9], task="echo", sampling=sampling, limits=LIMITS, layout=Chat)
        assert _ids(there) == _ids(here)
        assert [t.utterance.text for g in there for t in g.turns] == [t.utterance.text for g in here for t in g.turns]

    games = play_best_of(
        3, Counts(), actor, Echo, [1, 2], task="echo", sampling=SAMPLING, limits=LIMITS, layout=Chat, speaker=engine
    )
    assert _gap(games) < ROUNDING
    _check_that_an_error_leaves_nothing_behind(actor, engine)


class Breaks(Echo):
    """Raises at its first answer, in the middle of the others' games."""

    def step(self, utterance: str) -> Any:
        raise SystemExit


def _check_that_an_error_leaves_nothing_behind(actor: Actor, engine: Speaker) -> None:
    environment: type[Environment] = Breaks
    with pytest.raises(SystemExit):
        _played(actor, engine, [1, 2, 3, 4], make=environment)
    assert _gap(_played(actor, engine, [3, 8])) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 8])
def test_a_chat_model_learns_through_vllm(rank: int, tmp_path: Path) -> None:
    config, start = fine_tune(
        tmp_path, {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}, rank,
        rollout={"engine": "vllm", "vllm": {"enforce_eager": True}, "best_of": 2},
        eval={"every": 0, "final_games": 50}, iterations=6,
    )  # fmt: skip
    end = archer.train(config, tmp_path / "run")
    assert end.return_mean is not None
    assert start < 0.45 and end.return_mean > 0.6
    assert all(row["rollout/engine_gap_max"] < 1e-3 for row in RunFolder.open(tmp_path / "run").metrics()[2:])


@pytest.mark.skipif(REAL, reason="it is installed")
def test_without_vllm_it_is_said_how_to_get_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    with pytest.raises(ValueError, match=r"vllm is not installed: pip install -e '\.\[vllm\]'"):
        engine_of(_config(base))
