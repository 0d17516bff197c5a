"""The encoder critic: passes as the settings say, encoders of any kind, sizes of the built-in one."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from archer.config import TinyConfig
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.encoder_critic import EncoderCritic
from archer.models.passes import Passes
from archer.types import Episode

SHAPES: dict[str, dict[str, Any]] = {
    "roberta": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 600,
    },
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "modernbert": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "cls_token_id": None, "sep_token_id": None, "bos_token_id": None, "eos_token_id": None,
    },
}  # fmt: skip
"""The first has a pooler, the others have none."""


def _critic(kind: str, actor: Actor, path: Path, passes: Passes) -> EncoderCritic:
    """Around a small random encoder of the kind, as somebody has it in a folder."""
    if not path.exists():
        torch.manual_seed(0)
        shape = AutoConfig.for_model(kind, **SHAPES[kind], vocab_size=len(actor.tokenizer), pad_token_id=1)
        AutoModel.from_config(shape).save_pretrained(path)
        actor.tokenizer.save_pretrained(path)
    reader = copy(actor)
    reader.passes = passes
    torch.manual_seed(0)
    return EncoderCritic.build(str(path), reader, TinyConfig(), seed=0)


def _gradients(critic: EncoderCritic, episodes: list[Episode]) -> tuple[Tensor, dict[str, Tensor]]:
    values = critic(collate(episodes))
    (values.q.square().mean() + values.v.square().mean()).backward()  # type: ignore[no-untyped-call]
    return values.v.detach(), {name: p.grad for name, p in critic.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["distilbert", "modernbert"])
def test_without_a_pooler_a_text_is_its_first_token(
    kind: str, actor: Actor, episodes: list[Episode], tmp_path: Path
) -> None:
    critic = _critic(kind, actor, tmp_path / kind, Passes())
    episode = episodes[0]
    with torch.no_grad():
        values = critic(collate(episodes))
        text = actor.tokenizer.decode(episode.turns[0].prompt_ids, skip_special_tokens=True)
        read = critic.encoder(**actor.tokenizer(text, return_tensors="pt", return_token_type_ids=False))
    torch.testing.assert_close(values.v[:1], critic.v(read.last_hidden_state[:, 0]), atol=2e-5, rtol=0)
    assert torch.isfinite(values.q).all() and values.v.std() > 0


@pytest.mark.parametrize("kind", SHAPES)
def test_recomputing_an_encoder_changes_no_gradient(
    kind: str, actor: Actor, episodes: list[Episode], tmp_path: Path
) -> None:
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    for passes, times in ((Passes(), 3), (Passes(checkpointing=True), 5)):
        critic = _critic(kind, actor, tmp_path / kind, passes)
        runs: list[nn.Module] = []
        first = next(part for part in critic.encoder.modules() if isinstance(part, nn.Linear))
        first.register_forward_pre_hook(lambda module, _, runs=runs: runs.append(module))
        found.append(_gradients(critic, episodes))
        assert len(runs) == times  # states, last states and utterances; again for the two that the loss is of
        assert not any(part.training for part in critic.encoder.modules())
    (values, gradients), (again, of_again) = found
    assert torch.equal(values, again) and gradients.keys() == of_again.keys()
    assert all(torch.equal(gradients[name], of_again[name]) for name in gradients)


def test_an_encoder_is_passed_in_the_precision_that_is_set(
    actor: Actor, episodes: list[Episode], tmp_path: Path
) -> None:
    exact = _critic("roberta", actor, tmp_path / "model", Passes())
    rounded = _critic("roberta", actor, tmp_path / "model", Passes(precision=torch.bfloat16))
    kinds: list[torch.dtype] = []
    inner = rounded.encoder.encoder.layer[0].intermediate.dense
    inner.register_forward_hook(lambda _, __, output: kinds.append(output.dtype))
    with torch.no_grad():
        wanted, found = exact(collate(episodes)).v, rounded(collate(episodes)).v
    assert set(kinds) == {torch.bfloat16} and found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.1)


def test_an_encoder_is_compiled_where_that_is_set(
    actor: Actor, episodes: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **_: compiled.append(module))
    critic = _critic("distilbert", actor, tmp_path / "model", Passes(compiled=True))
    with torch.no_grad():
        critic(collate(episodes))
    assert compiled and all(part is critic.encoder for part in compiled)


def test_the_built_in_encoder_has_the_sizes_of_the_settings(actor: Actor, episodes: list[Episode]) -> None:
    critic = EncoderCritic.build(None, actor, TinyConfig(layers=1, width=24, heads=3), seed=0)
    shape = critic.encoder.config
    assert (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads) == (1, 24, 3)
    assert shape.intermediate_size == 72
    assert torch.isfinite(critic(collate(episodes)).q).all()
