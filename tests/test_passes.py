"""Recomputed and compiled passes: the same values and gradients, and playing knows nothing of them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from archer.beginning import begin_actor, begin_critic
from archer.config import RunConfig
from archer.config.layers import ConfigError, overlay
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import CausalCritic
from archer.models.encoder_critic import EncoderCritic
from archer.models.passes import Passes, attend_by
from archer.rollout.play import play
from archer.types import Episode
from tests.conftest import LIMITS, SAMPLING
from tests.test_engine import GPT2, SIZES, _model
from tests.worlds import Echo

SHAPES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "gpt2": GPT2 | {"n_positions": LIMITS.max_tokens, "resid_pdrop": 0.5},  # dropout must stay off
    "qwen3": SIZES,
}


def _actor(kind: str, like: Actor, passes: Passes) -> Actor:
    found = _model(kind, like, **SHAPES[kind])
    found.passes = passes
    return found


def _play(actor: Actor) -> list[Episode]:
    return play(actor, Echo, [0, 1, 2], task="echo", sampling=SAMPLING, limits=LIMITS)


def _critic(actor: Actor) -> CausalCritic:
    torch.manual_seed(0)
    return CausalCritic.from_actor(actor)


def _gradients(critic: CausalCritic, episodes: list[Episode]) -> tuple[Tensor, dict[str, Tensor]]:
    values = critic(collate(episodes))
    (values.q.square().mean() + values.v.square().mean()).backward()  # type: ignore[no-untyped-call]
    return values.q.detach(), {name: p.grad for name, p in critic.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", SHAPES)
def test_recomputing_changes_no_gradient_and_leaves_no_trace(kind: str, actor: Actor) -> None:
    plain, spare = _actor(kind, actor, Passes()), _actor(kind, actor, Passes(checkpointing=True))
    episodes = _play(plain)
    wanted, wanted_gradients = _gradients(_critic(plain), episodes)
    critic = _critic(spare)
    runs: list[nn.Module] = []
    layers = critic.trunk.h if kind == "gpt2" else critic.trunk.layers
    for layer in layers:
        layer.mlp.register_forward_pre_hook(lambda module, _: runs.append(module))
    found, gradients = _gradients(critic, episodes)
    assert len(runs) == 2 * len(layers)  # each once more on the way back
    assert torch.equal(found, wanted) and gradients.keys() == wanted_gradients.keys()
    assert all(torch.equal(gradients[name], wanted_gradients[name]) for name in gradients)
    with torch.no_grad():
        critic(collate(episodes))
    assert len(runs) == 3 * len(layers)  # nothing to go back to
    assert not any(module.training for module in critic.trunk.modules())


def test_a_policy_that_is_recomputed_plays_the_same_games(actor: Actor) -> None:
    """Qwen 3 plays through transformers' own forward pass."""
    plain, spare = _actor("qwen3", actor, Passes()), _actor("qwen3", actor, Passes(checkpointing=True))
    wanted = _play(plain)
    batch = collate(wanted)
    spare.logprobs(batch, batch.utterance_tokens()).sum().backward()  # type: ignore[no-untyped-call]
    assert [e.final_prompt_ids.tolist() for e in _play(spare)] == [e.final_prompt_ids.tolist() for e in wanted]


def test_what_cannot_be_recomputed_is_refused(actor: Actor) -> None:
    with pytest.raises(ValueError, match=r"Linear has no layers that can be recomputed; set"):
        Passes(checkpointing=True).hidden(nn.Linear(1, 1), collate(_play(_actor("gpt2", actor, Passes()))))


def test_compiled_passes_give_the_same_and_copies_are_compiled_too(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    usual = nn.Module.compile

    def traced(module: nn.Module, **options: Any) -> None:  # as torch.compile does, without its C++ compiler
        compiled.append(module)
        assert options == {"dynamic": True}
        usual(module, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", traced)
    plain, fast = _actor("qwen3", actor, Passes()), _actor("qwen3", actor, Passes(compiled=True))
    episodes = _play(plain)
    wanted, wanted_gradients = _gradients(_critic(plain), episodes)
    critic = _critic(fast)
    found, gradients = _gradients(critic, episodes)
    assert torch.equal(found, wanted)
    assert all(torch.equal(gradients[name], wanted_gradients[name]) for name in wanted_gradients)
    target = critic.target()
    target(collate(episodes))
    critic(collate(episodes))
    assert compiled == [critic.trunk, target.trunk]
    assert critic.state_dict().keys() == _critic(plain).state_dict().keys()
    batch = collate(episodes)
    fast.logprobs(batch, batch.utterance_tokens())
    assert compiled[2:] == [fast.model.base_model]
    assert [e.final_prompt_ids.tolist() for e in _play(fast)] == [e.final_prompt_ids.tolist() for e in episodes]
    deepcopy(fast)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_how_it_attends_changes_no_gradient(kind: str, actor: Actor) -> None:
    plain, other = _actor(kind, actor, Passes()), _actor(kind, actor, Passes())
    attend_by(other.network, "eager")
    episodes = _play(plain)
    called: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        fused = torch.nn.functional.scaled_dot_product_attention

        def counted(*arguments: Any, **named: Any) -> Tensor:
            called.append(1)
            return fused(*arguments, **named)

        patch.setattr("torch.nn.functional.scaled_dot_product_attention", counted)
        wanted, wanted_gradients = _gradients(_critic(plain), episodes)
        assert len(called) == plain.network.config.num_hidden_layers
        found, gradients = _gradients(_critic(other), episodes)
        assert len(called) == plain.network.config.num_hidden_layers  # and no more
    assert torch.allclose(found, wanted, atol=1e-5)
    assert all(torch.allclose(gradients[name], wanted_gradients[name], atol=1e-5) for name in wanted_gradients)


def test_every_network_attends_as_set(actor: Actor, tmp_path: Path) -> None:
    actor.save_pretrained(tmp_path / "model")
    config = overlay(
        RunConfig(),
        {"model": {"actor": str(tmp_path / "model"), "attention": "eager", "critic_model": str(tmp_path / "model"),
                   "precision": "bfloat16"}, "demonstrations": {"games": 0}, "critic_start": {"epochs": 0},
         "actor_start": {"epochs": 0}, "rollout": {"max_tokens": 64}},
        "test",
    )  # fmt: skip
    begun = begin_actor(config, [])
    critic = begin_critic(config, begun, [])
    assert isinstance(critic, CausalCritic)
    assert begun.network.config._attn_implementation == critic.trunk.config._attn_implementation == "eager"
    assert critic.passes.precision == torch.bfloat16  # of a model of its own too
    encoder = begin_critic(overlay(config, {"model": {"critic": "encoder", "critic_model": None}}, "test"), begun, [])
    assert isinstance(encoder, EncoderCritic) and encoder.encoder.config._attn_implementation == "eager"


def test_ways_to_attend_that_cannot_be_are_refused(actor: Actor) -> None:
    for name in ("flash_attention_2", "flex_attention", "nothing"):
        with pytest.raises(ConfigError, match=rf"model: attention='{name}' is not sdpa or eager: a row"):
            overlay(RunConfig(), {"model": {"attention": name}}, "test")
    capped = _model("gemma2", actor, **SIZES)  # softcapping is no part of the fused kernels
    with pytest.raises(ValueError, match=r"model\.attention='sdpa': Gemma2ForCausalLM cannot"):
        attend_by(capped.network, "sdpa")
    with pytest.raises(ValueError, match=r"model\.attention='sdpa': BloomForCausalLM attends in its own way"):
        attend_by(AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom", n_layer=1, hidden_size=32)), "sdpa")
