"""Small real things for every test: an environment, a tiny untrained actor, and games it played."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several test processes on few cores: one thread each is far faster

import io
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from archer.cli import main
from archer.config import (
    ActorConfig,
    CriticConfig,
    DemonstrationsConfig,
    EnvConfig,
    EvalConfig,
    ModelConfig,
    RolloutConfig,
    RunConfig,
    TinyConfig,
)
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import CausalCritic
from archer.models.tiny import build_tiny_actor
from archer.rollout.play import Limits, play
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from archer.training import train
from archer.types import Episode
from tests.worlds import Echo

torch.set_num_threads(1)

SAMPLING = Sampling(max_tokens=6)
LIMITS = Limits(max_turns=50, max_tokens=160, parallel=4)


@pytest.fixture(autouse=True)
def _no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the learning curve takes as long as the rest of a small run; runs that tests share do draw it."""
    monkeypatch.setattr("archer.measuring.plot_curve", lambda *arguments, **more: None)


@pytest.fixture(scope="session")
def actor() -> Actor:
    """An untrained two-layer decoder that knows the words of ``Echo``."""
    texts = ["Say a word.\n", "You said a word.\n", "red", "green", "blue", "yellow"] * 3
    return build_tiny_actor(texts, layers=2, width=32, heads=2, context=160, vocabulary=300, seed=3)


@pytest.fixture(scope="session")
def episodes(actor: Actor) -> list[Episode]:
    """Seven games of different lengths."""
    return play(actor, Echo, list(range(7)), task="echo", sampling=SAMPLING, limits=LIMITS)


@pytest.fixture
def agent(actor: Actor) -> Agent:
    """The untrained actor, a copy that a test may train, with an untrained critic."""
    actor = deepcopy(actor)
    torch.manual_seed(0)
    critic = CausalCritic.from_actor(actor)
    return Agent(
        actor=actor,
        actor_optimizer=make_optimizer(actor, ActorConfig()),
        critic=critic,
        target_critic=critic.target(),
        critic_optimizer=make_optimizer(critic, CriticConfig()),
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``TwoSteps``, trained for two iterations."""
    path = tmp_path_factory.mktemp("trained") / "run"
    config = RunConfig(
        env=EnvConfig(name="tests.worlds:TwoSteps"),
        demonstrations=DemonstrationsConfig(games=200),
        rollout=RolloutConfig(games=24, best_of=0, utterance_tokens=8, parallel=24),
        eval=EvalConfig(every=1, games=4, final_games=30),
        critic=CriticConfig(updates=2, batch_turns=16),
        actor=ActorConfig(updates=2, batch_turns=16),
        iterations=2,
        model=ModelConfig(tiny=TinyConfig(layers=1, width=32, heads=2, vocabulary=300)),
    )
    train(config, path)
    return path


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``archer`` with some arguments in this process: starting another takes longer than most commands."""

    def run(*arguments: str, typed: str = "") -> Done:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        capfd.readouterr()
        try:
            main(list(arguments))
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call for siblings."""
    calls: list[int] = []
    original = SiblingSampler.sample

    def sample(self: SiblingSampler, *arguments: Any) -> Any:
        calls.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(SiblingSampler, "sample", sample)
    return calls
