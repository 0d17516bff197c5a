"""Generation configs of published models: what transformers would not save again must not cost a run its work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

import archer
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.models.actor import Actor
from archer.models.generation import drop_ignored
from archer.storage.checkpoint import latest_checkpoint
from tests.families import save_family
from tests.runs import SMALL

SHORT: dict[str, Any] = {
    "demonstrations": {"games": 16}, "supervised": {"epochs": 1}, "actor_start": {"epochs": 0}, "iterations": 1,
    "warmup": 0, "eval": {"every": 0, "games": 4, "final_games": 4}, "rollout": {"max_tokens": 160},
}  # fmt: skip


def _model(path: Path, **said: Any) -> Path:
    """A chat model whose generation config also says this."""
    file = save_family("llama3", path) / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    return path


def _config(model: Path, layout: str, rank: int) -> RunConfig:
    changes = {"model": {"actor": str(model), "lora": {"rank": rank}}, "rollout": {"layout": layout}}
    return overlay(overlay(overlay(RunConfig(), SMALL, "test"), SHORT, "test"), changes, "test")


@pytest.mark.parametrize(
    "ignored",
    [
        {"temperature": 0.9, "top_p": 0.6},
        {"do_sample": False, "top_k": 10, "min_p": 0.1, "typical_p": 0.9, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1},
        {"early_stopping": True, "length_penalty": 0.5},
        {"output_scores": True, "output_attentions": True},
        {"pad_token_id": -1},
    ],
)
def test_what_generate_ignores_is_dropped_and_nothing_else(ignored: dict[str, Any], tmp_path: Path) -> None:
    config = GenerationConfig(**ignored, eos_token_id=2, repetition_penalty=1.2)
    drop_ignored(config)
    found = {name: value for name, value in config.to_dict().items() if value is not None}
    assert not found.keys() & (ignored.keys() - {"do_sample"})
    assert (found["eos_token_id"], found["repetition_penalty"]) == (2, 1.2)
    config.save_pretrained(tmp_path)


def test_what_generate_goes_by_is_kept() -> None:
    used = {
        "do_sample": True, "temperature": 0.9, "top_p": 0.6, "num_beams": 2, "length_penalty": 0.5, "pad_token_id": 0,
        "return_dict_in_generate": True, "output_scores": True,
    }  # fmt: skip
    config = GenerationConfig(**used)
    drop_ignored(config)
    assert config.to_dict().items() >= used.items()


@pytest.mark.parametrize(("layout", "rank"), [("minutes", 0), ("chat", 0), ("chat", 4)])
def test_a_model_with_sampling_values_that_do_nothing_is_trained_and_saved(
    layout: str, rank: int, tmp_path: Path
) -> None:
    model = _model(tmp_path / "model", temperature=0.9, top_p=0.6)
    archer.train(_config(model, layout, rank), tmp_path / "run")
    last = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert last is not None and last.name == "000001"
    told = GenerationConfig.from_pretrained(last / "actor")
    assert told.temperature is None and told.top_p is None
    actor = archer.load(tmp_path / "run").actor
    assert told.eos_token_id == actor.stop_id if layout == "chat" else told.suppress_tokens


@pytest.mark.parametrize("rank", [0, 4])
def test_a_model_that_cannot_be_saved_is_refused_before_anything_is_learned(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(tmp_path / "model", use_cache=False, cache_implementation="static")
    monkeypatch.setattr("archer.starting.clone", lambda *_, **__: pytest.fail("it has begun to learn"))
    with pytest.raises(ValueError, match=r"model\.actor: LlamaForCausalLM .* cannot be saved.*cache_implementation"):
        archer.train(_config(model, "chat", rank), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_tokenizer_that_cannot_be_saved_is_refused_too(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    actor.check_saving()

    def refuse(_: str) -> None:
        raise Exception("no vocabulary file")

    monkeypatch.setattr(actor.tokenizer, "save_pretrained", refuse)
    with pytest.raises(ValueError, match="no vocabulary file"):
        actor.check_saving()
