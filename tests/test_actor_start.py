"""What the actor takes from demonstrations once a critic can judge them, and where a run does it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archer
from archer.algorithms.supervised import start_actor
from archer.config import ActorConfig, ActorStartConfig
from archer.envs.base import play_scripted
from archer.losses import advantage_weights, cloning_loss
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch, collate
from archer.models.critic import Critic, Values
from archer.rollout.demonstrations import to_episode
from archer.rollout.prompts import PlainText
from archer.storage.runfolder import RunFolder
from archer.types import Episode
from tests.runs import small_run
from tests.worlds import TwoSteps


class Likes(Critic):
    """Q is 1 for utterances that say ``word`` and 0 for others, V is 0; returns are spread by 2."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    @property
    def unit(self) -> float:
        return 2.0

    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        said = [turn.utterance.text == self.word for episode in batch.episodes for turn in episode.turns]
        q = torch.tensor(said, dtype=torch.float32)[:, None].expand(-1, 2)
        final = torch.zeros(len(batch.episodes), 2)
        return Values(q, torch.zeros_like(q), torch.zeros(len(q), 0, 2), final, torch.zeros(0), torch.zeros(0, 2))


@pytest.fixture(scope="module")
def demonstrations(actor: Actor) -> list[Episode]:
    env, prompts = TwoSteps(), PlainText(actor.tokenizer)
    games = [play_scripted(env, env.demonstrator(seed), seed) for seed in range(60)]
    return [to_episode(game, prompts, seed=seed, task="two steps") for seed, game in enumerate(games)]


def test_weights_are_exponential_up_to_their_cap() -> None:
    found = advantage_weights(torch.tensor([-1.0, 0.0, 0.5, 9.0]), beta=2.0, cap=5.0)
    assert found.tolist() == pytest.approx([math.exp(-2.0), 1.0, math.exp(1.0), 5.0])


def test_weighted_cloning_is_a_weighted_mean() -> None:
    loss, _ = cloning_loss(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert loss.item() == pytest.approx((1 + 2 + 8) / 4)


@pytest.mark.parametrize("word", ["red", "blue"])
def test_the_actor_says_more_of_what_the_critic_likes(word: str, agent: Agent, demonstrations: list[Episode]) -> None:
    agent.critic = Likes(word)
    batch = collate(demonstrations)
    likes = torch.tensor([turn.utterance.text == word for game in demonstrations for turn in game.turns])

    def says(liked: bool) -> float:
        tokens = batch.utterance_tokens()
        with torch.no_grad():
            found = agent.actor.logprobs(batch, tokens)
        return float(found[(likes == liked)[tokens.utterance]].mean())

    before = says(True) - says(False)
    heard: list[dict[str, float]] = []
    start = ActorStartConfig(epochs=4, batch_games=10)
    start_actor(agent, demonstrations, start, ActorConfig(beta=6.0), seed=[1], report=heard.append)
    assert len(heard) == 4 * 6 and set(heard[0]) == {"actor_start/loss"}
    assert says(True) - says(False) > before + 0.5  # weights e³ = 20 and 1


def test_both_ends_of_the_offline_start_are_measured_before_the_first_game(tmp_path: Path) -> None:
    summary = archer.train(small_run(critic_start={"epochs": 20}, actor_start={"epochs": 20}), tmp_path / "run")
    rows = RunFolder(tmp_path / "run").metrics()
    assert [(row["iteration"], row["games"]) for row in rows[:3]] == [(0, 0), (0, 0), (1, 16)]
    assert summary.start_return == rows[0]["eval/return_mean"]
    assert rows[1]["eval/return_mean"] > rows[0]["eval/return_mean"] + 0.2
    assert rows[1]["time/start_s"] > rows[0]["time/start_s"] > 0
    assert (tmp_path / "run" / "offline.parquet").exists()


@pytest.mark.parametrize("changes", [{"actor_start": {"epochs": 0}}, {"demonstrations": {"games": 0}}])
def test_without_it_one_measurement_is_all(changes: dict[str, Any], tmp_path: Path) -> None:
    archer.train(small_run(iterations=0), tmp_path / "model")
    model = str(tmp_path / "model" / "checkpoints" / "000000" / "actor")
    config = small_run(**({"iterations": 1, "model": {"actor": model}, "supervised": {"epochs": 0}} | changes))
    archer.train(config, tmp_path / "run")
    assert [row["iteration"] for row in RunFolder(tmp_path / "run").metrics()] == [0, 1]


def test_a_run_that_goes_on_with_its_critic_does_not_start_again(tmp_path: Path) -> None:
    archer.train(small_run(iterations=2), tmp_path / "first")
    archer.train(small_run(iterations=1, start_from=str(tmp_path / "first")), tmp_path / "second")
    rows = RunFolder(tmp_path / "second").metrics()
    assert [row["games"] for row in rows] == [32, 48]
    assert np.isclose(rows[0]["eval/return_mean"], RunFolder(tmp_path / "first").summary()["return_mean"])
