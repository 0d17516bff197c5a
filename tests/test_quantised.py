"""Optimizer states in eight bits: how large, how near to float32, resumed exactly, refused where they cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import archer
from archer.config import RunConfig
from archer.config.layers import ConfigError, overlay
from archer.devices.quantised import check_states
from archer.optimize import Optimizer
from archer.storage.checkpoint import load_optimizers, optimizer_state, save_tensors
from tests.runs import SMALL, fingerprint, stop_and_resume


def _learner(states: str = "8-bit", matrix_lr: float = 0.0) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(96, 64), nn.Linear(64, 4))
    return network, Optimizer(network, lr=0.01, clip=1.0, states=states, matrix_lr=matrix_lr)


def _steps(network: nn.Module, optimizer: Optimizer, first: int, count: int) -> list[float]:
    losses = []
    for number in range(first, first + count):
        inputs = torch.randn(32, 96, generator=torch.Generator().manual_seed(number))
        loss: Tensor = (network(inputs) - inputs[:, :4]).pow(2).mean()
        optimizer.step([(loss, 1.0)])
        losses.append(float(loss.detach()))
    return losses


def test_states_take_a_byte_a_number_and_a_scale_a_block(tmp_path: Path) -> None:
    network, optimizer = _learner()
    _steps(network, optimizer, 0, 1)
    save_tensors(tmp_path / "states", optimizer_state(optimizer.parts))
    saved = load_file(tmp_path / "states")
    large = {name.partition(".")[2]: tensor for name, tensor in saved.items() if name.startswith("0.0.")}
    # 96 · 64 = 6144 numbers, in 6144 / 256 = 24 blocks; the last layer's 256 and the biases are too few
    small = {name: tensor for name, tensor in saved.items() if name.startswith("0.2.")}
    assert {name: (tensor.dtype, tensor.numel()) for name, tensor in large.items()} == {
        "0.step": (torch.int64, 1),
        "0.state1": (torch.uint8, 6144), "0.state2": (torch.uint8, 6144),
        "0.absmax1": (torch.float32, 24), "0.absmax2": (torch.float32, 24),
    }  # fmt: skip
    assert small["0.2.state1"].dtype == torch.float32 and small["0.2.state1"].numel() == 256


@pytest.mark.parametrize("matrix_lr", [0.0, 0.02])
def test_they_learn_as_float32_does(matrix_lr: float) -> None:
    eight, full = (_steps(*_learner(states, matrix_lr), 0, 60)[-1] for states in ("8-bit", "float32"))
    first = _steps(*_learner("float32", matrix_lr), 0, 1)[0]
    assert eight == pytest.approx(full, rel=0.1) and full < 0.2 * first


def test_an_optimizer_continues_exactly(tmp_path: Path) -> None:
    network, optimizer = _learner()
    _steps(network, optimizer, 0, 3)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_tensors(tmp_path / "states", optimizer_state(optimizer.parts))
    through = _steps(network, optimizer, 3, 3)

    again, resumed = _learner()
    again.load_state_dict(weights)
    load_optimizers(tmp_path / "states", resumed.parts)
    assert _steps(again, resumed, 3, 3) == through
    assert all(map(torch.equal, again.state_dict().values(), network.state_dict().values()))
    own = [resumed.parts[0].state[p] for p in again.parameters()]
    assert isinstance(own[0]["step"], int) and own[0]["state1"].dtype == torch.uint8


def test_a_run_resumes_exactly(tmp_path: Path) -> None:
    states = {name: {"states": "8-bit"} for name in ("supervised", "critic_start", "critic", "actor")}
    config = overlay(overlay(RunConfig(), SMALL, "test"), states, "test")
    archer.train(config, tmp_path / "through")
    stop_and_resume(config, tmp_path / "stopped", 2)
    assert fingerprint(tmp_path / "through") == fingerprint(tmp_path / "stopped")


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"critic\.states='paged-8-bit' moves between a GPU and its host.*8-bit"):
        overlay(RunConfig(), {"critic": {"states": "paged-8-bit"}}, "test")
    config = overlay(RunConfig(), {"actor": {"states": "8-bit"}}, "test")

    def stumble(*arguments: Any, **more: Any) -> None:
        raise NotImplementedError("no kernel")

    with monkeypatch.context() as patch:
        patch.setattr("bitsandbytes.optim.AdamW8bit.step", stumble)
        with pytest.raises(ValueError, match=r"states='8-bit': bitsandbytes cannot take a step on 'cpu' \(no kernel\)"):
            archer.train(config, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"bitsandbytes is not installed: pip install -e '\.\[bnb\]'"):
        archer.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_float32_asks_for_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    check_states({"float32"}, "cpu")
    _steps(*_learner("float32"), 0, 1)
