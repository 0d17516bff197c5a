"""The auxiliary prediction of the environment's answers looks at the right tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import archer
from archer.config import LoraConfig, RunConfig
from archer.config.layers import overlay
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import CausalCritic
from archer.models.lora import Adapted, Base
from archer.optimize import hidden_matrices
from archer.rollout.siblings import SiblingSampler
from archer.storage.checkpoint import latest_checkpoint
from archer.types import Episode
from tests.conftest import SAMPLING
from tests.families import SHAPE, save_family
from tests.runs import SMALL, fingerprint, stop_and_resume

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "phi": {},  # with biases
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "gemma2": {"final_logit_softcapping": 5.0},
}
"""Kinds of models whose output layers differ, and by what."""


def test_answer_tokens_are_what_stands_between_utterances(actor: Actor, episodes: list[Episode]) -> None:
    batch = collate(episodes, SiblingSampler(actor, SAMPLING).sample(episodes, 2, [1]))
    tokens = batch.observation_tokens()
    found = batch.ids[tokens.row, tokens.stands_at].tolist()
    expected: list[int] = []
    for episode in episodes:
        states = [*(turn.prompt_ids for turn in episode.turns[1:]), episode.final_prompt_ids]
        for turn, state in zip(episode.turns, states, strict=True):
            expected += state[len(turn.prompt_ids) + len(turn.utterance.ids) :].tolist()
    assert found == expected
    assert torch.equal(tokens.predicted_at, tokens.stands_at - 1)


def test_critic_predicts_answers_from_the_tokens_before_them(actor: Actor, episodes: list[Episode]) -> None:
    critic = CausalCritic.from_actor(actor)
    episode = episodes[0]
    with torch.no_grad():
        answers = critic(collate([episode]), answers=True).answers
        ids = torch.from_numpy(episode.final_prompt_ids.astype(np.int64))[None]
        logprobs = actor.model(input_ids=ids).logits[0].log_softmax(-1)
    # The untrained critic is a copy of the actor, whose output layer is its embedding.
    start = len(episode.turns[0].prompt_ids) + len(episode.turns[0].utterance.ids)
    expected = torch.stack([logprobs[i - 1, ids[0, i]] for i in range(start, ids.shape[1])])
    torch.testing.assert_close(answers, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_untrained_critic_predicts_answers_as_the_actor_does(
    family: str, tied: bool, rank: int, actor: Actor, episodes: list[Episode]
) -> None:
    """Whatever its output layer is; weights far from 0 make another one plain."""
    shape = AutoConfig.for_model(
        family, **SHAPE, **FAMILIES[family], vocab_size=len(actor.tokenizer), tie_word_embeddings=tied, pad_token_id=0
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    network = Adapted(Base(model, LoraConfig(rank=rank))) if rank else model
    speaker = Actor(network, actor.tokenizer)
    critic = CausalCritic.from_actor(speaker)
    batch = collate(episodes)
    with torch.no_grad():
        wanted = speaker.answer_logprobs(speaker.hidden(batch), batch)
        torch.testing.assert_close(critic(batch, answers=True).answers, wanted)
    assert wanted.std() > 0.05
    # Its own where neither embeddings nor a base have the same; with biases embeddings do not.
    assert (critic.output is not None) == (rank == 0 and (not tied or family == "phi"))


def test_an_output_layer_of_its_own_is_trained_beside_the_actors(actor: Actor, episodes: list[Episode]) -> None:
    shape = AutoConfig.for_model("llama", **SHAPE, vocab_size=len(actor.tokenizer), tie_word_embeddings=False)
    speaker = Actor(AutoModelForCausalLM.from_config(shape), actor.tokenizer)
    before = speaker.model.lm_head.weight.clone()
    critic = CausalCritic.from_actor(speaker)
    assert isinstance(critic.output, torch.nn.Linear)
    weight = critic.output.weight
    assert not any(matrix is weight for matrix in hidden_matrices(critic))
    critic(collate(episodes), answers=True).answers.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    with torch.no_grad():
        weight.add_(1.0)
    assert torch.equal(speaker.model.lm_head.weight, before)
    target = critic.target()
    assert isinstance(target, CausalCritic) and isinstance(target.output, torch.nn.Linear)
    assert torch.equal(target.output.weight, weight) and not target.output.weight.requires_grad


def test_a_run_with_an_output_layer_of_its_own_resumes_exactly(tmp_path: Path) -> None:
    model = save_family("llama3", tmp_path / "model", tie_word_embeddings=False)
    changes = {
        "model": {"actor": str(model)}, "rollout": {"max_tokens": 160, "layout": "plain"}, "supervised": {"epochs": 1},
        "demonstrations": {"games": 16}, "actor_start": {"epochs": 0}, "iterations": 2,
        "eval": {"every": 0, "final_games": 4},
    }  # fmt: skip
    config = overlay(overlay(RunConfig(), SMALL, "test"), changes, "test")
    archer.train(config, tmp_path / "whole")
    stop_and_resume(config, tmp_path / "stopped", 1)
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "stopped")
    last = latest_checkpoint(tmp_path / "whole" / "checkpoints")
    assert last is not None
    learned = load_file(last / "critic.safetensors")["output.weight"]
    followed = load_file(last / "target_critic.safetensors")["output.weight"]
    began = load_file(tmp_path / "whole" / "checkpoints" / "000000" / "critic.safetensors")["output.weight"]
    assert 0 < (followed - began).abs().mean() < (learned - began).abs().mean()
