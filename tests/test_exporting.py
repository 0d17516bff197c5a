"""Exported policies: what transformers loads says what the run would have said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import archer
from tests.conftest import Command
from tests.families import save_family
from tests.runs import small_run
from tests.test_lora import _config as adapted_config


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "plain"
    archer.train(small_run(iterations=1, warmup=0), run)
    return run


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = save_family("qwen2", tmp_path_factory.mktemp("base"))
    run = tmp_path_factory.mktemp("runs") / "adapted"
    archer.train(adapted_config(base, iterations=1, warmup=0), run)
    return run


def _logits(path: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(path)(torch.arange(20)[None]).logits  # type: ignore[no-any-return]


def _ours(run: Path) -> torch.Tensor:
    actor = archer.load(run).actor  # an adapter goes with its network
    with torch.no_grad():
        return actor.network(torch.arange(20)[None]).logits  # type: ignore[no-any-return]


def test_a_policy_is_written_with_its_card(plain: Path, tmp_path: Path, command: Command) -> None:
    done = command("export", str(plain), "--out", str(tmp_path / "agent"), "--json")
    assert done.code == 0, done.err
    assert torch.equal(_logits(tmp_path / "agent"), _ours(plain))
    assert AutoTokenizer.from_pretrained(tmp_path / "agent").eos_token == "<|stop|>"
    card = (tmp_path / "agent" / "README.md").read_text()
    assert 'library_name: "transformers"' in card and "preset `archer`" in card and "| 16 | " in card
    assert "rollout.layout=minutes" in card and "iterations: 1" in card


def test_an_adapter_is_written_alone_or_worked_in(adapted: Path, tmp_path: Path, command: Command) -> None:
    alone, merged = tmp_path / "alone", tmp_path / "merged"
    assert command("export", str(adapted), "--out", str(alone)).code == 0
    assert command("export", str(adapted), "--out", str(merged), "--merge").code == 0
    assert torch.allclose(_logits(alone), _ours(adapted), atol=1e-5)
    assert torch.allclose(_logits(merged), _ours(adapted), atol=1e-5)
    assert (alone / "adapter_config.json").exists() and not (merged / "adapter_config.json").exists()
    assert (merged / "model.safetensors").exists() and not (alone / "model.safetensors").exists()
    assert (
        AutoModelForCausalLM.from_pretrained(merged).generation_config.eos_token_id
        == archer.load(adapted).actor.stop_id
    )
    assert 'library_name: "peft"' in (alone / "README.md").read_text()


def test_nothing_is_overwritten_or_left_half_done(
    plain: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = command("export", str(plain), "--out", str(tmp_path))
    assert refused.code == 2 and "exists already" in refused.err
    refused = command("export", str(plain), "--out", str(tmp_path / "m"), "--merge")
    assert refused.code == 2 and "there is no adapter to merge" in refused.err

    def fail(*arguments: object, **keywords: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("archer.operations.exporting.card", fail)
    assert command("export", str(plain), "--out", str(tmp_path / "n")).code == 1
    assert not list(tmp_path.iterdir())
