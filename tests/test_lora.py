"""Adapters: one frozen base under actor, critic and their copies, files that other libraries read, exact resume."""

from __future__ import annotations

import dataclasses
import gc
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

import archer
from archer.beginning import begin_critic, load_pretrained
from archer.config import LoraConfig, ModelConfig, RunConfig
from archer.config.layers import overlay
from archer.models.actor import Actor
from archer.models.batch import EpisodeBatch, collate
from archer.models.critic import CausalCritic
from archer.models.lora import Adapted
from archer.models.passes import Passes
from archer.optimize import hidden_matrices
from archer.resuming import restore
from archer.rollout.chat import Chat
from archer.rollout.demonstrations import to_episode
from archer.storage.checkpoint import latest_checkpoint
from archer.storage.runfolder import RunFolder
from tests.chatting import fine_tune
from tests.families import save_family
from tests.runs import SMALL, fingerprint, stop_and_resume
from tests.test_chat import _game


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("qwen2", tmp_path_factory.mktemp("base"))


def _model(base: Path, **lora: Any) -> ModelConfig:
    return ModelConfig(actor=str(base), lora=LoraConfig(rank=4, **lora))


def _actor(base: Path, **lora: Any) -> Actor:
    torch.manual_seed(1)
    return load_pretrained(_model(base, **lora), base, "cpu")


def _batch(actor: Actor) -> EpisodeBatch:
    return collate([to_episode(_game(["red", "green blue"]), Chat(actor.tokenizer), seed=0, task="talk")])


def _logprobs(actor: Actor) -> Tensor:
    batch = _batch(actor)
    return actor.logprobs(batch, batch.utterance_tokens())


def _disturb(network: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_an_adapter_begins_as_the_model_that_it_adapts(base: Path) -> None:
    plain, adapted = Actor.from_pretrained(base), _actor(base)
    assert torch.equal(_logprobs(plain), _logprobs(adapted))
    # q, k, v, o 32x32 and up, gate 32x64, down 64x32 in two layers: (4 · 64 + 3 · 96) · rank 4 · 2
    assert sum(p.numel() for p in adapted.parameters()) == (4 * 64 + 3 * 96) * 4 * 2
    _disturb(adapted, 0)
    assert not torch.allclose(_logprobs(plain), _logprobs(adapted), atol=1e-3)


def test_copies_stand_on_one_base_and_do_not_disturb_each_other(base: Path) -> None:
    actor = _actor(base)
    _disturb(actor, 0)
    critic = CausalCritic.from_actor(actor)
    assert isinstance(actor.model, Adapted) and isinstance(critic.trunk, Adapted)
    assert critic.trunk.base is actor.model.base and critic.target().trunk.base is actor.model.base  # type: ignore[union-attr]
    before, batch = _logprobs(actor).detach(), _batch(actor)
    values = critic(batch).q.detach()
    copy = deepcopy(actor)
    assert torch.equal(_logprobs(copy), before)
    _disturb(copy, 1)
    _disturb(critic, 2)
    assert torch.equal(_logprobs(actor), before)  # whatever passed through the base in between
    assert not torch.allclose(_logprobs(copy), before, atol=1e-3)
    assert not torch.allclose(critic(batch).q, values, atol=1e-3)


def test_gradients_reach_the_network_that_was_asked_and_nothing_else(base: Path) -> None:
    actor = _actor(base)
    _disturb(actor, 0)
    critic, frozen = CausalCritic.from_actor(actor), deepcopy(actor).requires_grad_(False)
    batch = _batch(actor)
    found: list[list[Tensor]] = []
    for recomputed in (False, True):
        actor.passes = Passes(checkpointing=recomputed)
        actor.zero_grad()
        said = _logprobs(actor)
        with torch.no_grad():  # other networks pass before the way back
            _ = _logprobs(frozen), critic(batch)
        said.sum().backward()  # type: ignore[no-untyped-call]
        found.append([parameter.grad.clone() for parameter in actor.parameters() if parameter.grad is not None])
        assert len(found[-1]) == len(list(actor.parameters()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))
    assert all(p.grad is None for network in (critic, frozen) for p in network.parameters())
    assert actor.model.base.model.get_input_embeddings().weight.grad is None
    assert all(p.requires_grad for p in actor.parameters()) and not any(p.requires_grad for p in frozen.parameters())


def test_an_adapter_goes_with_its_network(base: Path) -> None:
    actor = _actor(base)
    _disturb(actor, 0)
    assert isinstance(actor.model, Adapted)
    before, copy = _logprobs(actor).detach(), deepcopy(actor)
    assert len(actor.model.base.model.peft_config) == 2
    del copy
    gc.collect()
    assert list(actor.model.base.model.peft_config) == [actor.model.name]
    assert sum("lora_A" in key for key, _ in actor.model.base.model.named_parameters()) == 7 * 2
    assert torch.equal(_logprobs(actor), before)


@pytest.mark.parametrize("targets", [("q_proj",), ("q_proj", "v_proj")])
def test_layers_are_adapted_by_name(targets: tuple[str, ...], base: Path) -> None:
    actor = _actor(base, targets=targets)
    assert sum(p.numel() for p in actor.parameters()) == len(targets) * 2 * 4 * 64  # two layers of rank 4 · (32 + 32)
    assert sum(p.numel() for p in deepcopy(actor).parameters()) == len(targets) * 2 * 4 * 64
    with pytest.raises(ValueError, match="nowhere"):
        _actor(base, targets=("nowhere",))


def test_factors_are_no_matrices_for_muon(base: Path) -> None:
    critic = begin_critic(RunConfig(model=_model(base)), _actor(base), [])
    assert {tuple(p.shape) for p in hidden_matrices(critic)} <= {(32, 32)}  # the heads' own


@pytest.mark.parametrize("dora", [False, True])
def test_others_read_what_is_written(dora: bool, base: Path, tmp_path: Path) -> None:
    actor = _actor(base, dora=dora)
    _disturb(actor, 3)
    actor.save_pretrained(tmp_path)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        ours = actor.network(ids).logits
        peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path))
        assert torch.allclose(peft(ids).logits, ours, atol=1e-5)
        if not dora:  # whose magnitudes transformers 5 looks for under another name than PEFT's
            assert torch.allclose(AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, ours, atol=1e-5)
    again = _actor(base, dora=dora)
    again.model.load(tmp_path, "cpu")
    assert torch.equal(_logprobs(again), _logprobs(actor))


@pytest.mark.parametrize("dora", [False, True])
def test_merged_weights_are_a_model_of_its_own(dora: bool, base: Path) -> None:
    actor = _actor(base, dora=dora)
    _disturb(actor, 4)
    with torch.no_grad():
        before = _logprobs(actor)
        merged = Actor.from_pretrained(base)
        merged.model.load_state_dict(actor.model.base.merged(actor.model.name))
        assert torch.allclose(_logprobs(merged), before, atol=1e-5)
        assert torch.equal(_logprobs(actor), before)  # and the base is as it was


def test_a_base_in_bfloat16_has_adapters_in_float32(base: Path) -> None:
    model = dataclasses.replace(_model(base), precision="bfloat16")
    actor = load_pretrained(model, base, "cpu")
    actor.passes = Passes(torch.bfloat16)
    assert {p.dtype for p in actor.parameters()} == {torch.float32}
    assert actor.network.get_input_embeddings().weight.dtype == torch.bfloat16
    wanted = _logprobs(Actor.from_pretrained(base))
    assert torch.allclose(_logprobs(actor), wanted, atol=0.1)


def _config(base: Path, **changes: Any) -> RunConfig:
    adapted = {
        "model": {"actor": str(base), "lora": {"rank": 4}},
        "rollout": {"layout": "chat", "max_tokens": 160},
        "actor": {"average": 1.0},
        "supervised": {"epochs": 2},
    }
    return overlay(overlay(overlay(RunConfig(), SMALL, "test"), adapted, "test"), changes, "test")


def test_a_run_with_adapters_resumes_exactly(base: Path, tmp_path: Path) -> None:
    config = _config(base, iterations=3)
    archer.train(config, tmp_path / "whole")
    stop_and_resume(config, tmp_path / "cut", 2)
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
    checkpoint = latest_checkpoint(tmp_path / "whole" / "checkpoints")
    assert checkpoint is not None
    files = {path.name for path in (checkpoint / "actor").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    assert json.loads((checkpoint / "actor" / "adapter_config.json").read_text())["r"] == 4
    run = restore(RunFolder.open(tmp_path / "whole"))
    assert run.anchor is not None and run.anchor.model.base is run.agent.actor.model.base
    result = archer.evaluate(archer.load(tmp_path / "whole"), episodes=4)
    assert result["episodes"] == 4


def test_other_adapters_cannot_go_on_from_a_run(base: Path, tmp_path: Path) -> None:
    archer.train(_config(base, iterations=0), tmp_path / "first")
    with pytest.raises(ValueError, match=r"adapters of rank 4 on .*model\.lora\.rank=8"):
        archer.train(
            _config(base, start_from=str(tmp_path / "first"), model={"lora": {"rank": 8}}), tmp_path / "second"
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"lora": {"rank": 4}}}, r"name one in model\.actor"),
        ({"model": {"lora": {"rank": 4}, "actor": "x", "compile": True}}, r"model\.compile needs networks that stand"),
        (
            {"model": {"lora": {"rank": 4}, "actor": "x"}, "rollout": {"overlap": True, "best_of": 0}},
            r"rollout\.overlap needs",
        ),
    ],
)
def test_what_adapters_cannot_do_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        overlay(RunConfig(), changes, "test")


def test_a_chat_model_learns_on_from_its_supervised_start(tmp_path: Path) -> None:
    """As with a model of one's own: fine-tuned on chats in full, exported, then reinforced through adapters."""
    config, start = fine_tune(tmp_path)
    end = archer.train(config, tmp_path / "run")
    assert end.return_mean is not None
    assert start == end.start_return  # an adapter begins as the model, and the chat is laid out alike
    assert start < 0.45 and end.return_mean > start + 0.25  # .24 to .60 or .80, by the processor's rounding
