"""Checkpoints when the disk fills up at any point, when a manifest is damaged, and when a run had to step back."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import archer.storage.checkpoint
from archer.optimize import Optimizer
from archer.storage.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    load_module,
    load_optimizers,
    optimizer_state,
    save_checkpoint,
    save_tensors,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


def _fill(folder: Path) -> None:
    (folder / "actor").mkdir()
    (folder / "actor" / "weights").write_bytes(b"1234")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("refusing", ["sync", "write_json", "_sha256"])
def test_a_disk_that_fills_up_anywhere_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    save_checkpoint(tmp_path, 1, _fill, keep=1)
    works: Callable[..., object] = getattr(archer.storage.checkpoint, refusing)

    def refuse(path: Path, *rest: object) -> object:
        if ".writing" in path.parts:
            raise FULL
        return works(path, *rest)

    monkeypatch.setattr(archer.storage.checkpoint, refusing, refuse)
    with pytest.raises(CheckpointError, match=r"step 2 .*No space left.*000001, is intact.*resume"):
        save_checkpoint(tmp_path, 2, _fill, keep=1)
    assert _names(tmp_path) == ["000001"]
    monkeypatch.undo()
    assert save_checkpoint(tmp_path, 2, _fill, keep=1).name == "000002"


@pytest.mark.parametrize("write", ["save_tensors(folder / 'm', big.state_dict())", "tokenizer.save(str(folder / 't'))"])
def test_a_full_disk_is_told_through_libraries_that_hide_the_os_error(tmp_path: Path, write: str) -> None:
    """A real limit on file size: safetensors and tokenizers raise errors of their own, which are no OSError."""
    script = f"""
import resource, sys
from pathlib import Path
import torch
from tokenizers import Tokenizer, models
from archer.storage.checkpoint import CheckpointError, save_checkpoint, save_tensors
folder = Path(sys.argv[1])
big = torch.nn.Linear(300, 300)
tokenizer = Tokenizer(models.WordLevel({{str(i): i for i in range(9000)}}, unk_token="0"))
save_checkpoint(folder, 1, lambda folder: save_tensors(folder / "m", torch.nn.Linear(2, 2).state_dict()), keep=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(folder, 2, lambda folder: {write}, keep=1)
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout and "000001, is intact" in done.stdout
    assert _names(tmp_path) == ["000001"]


def test_a_mistake_in_the_code_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    def wrong(folder: Path) -> None:
        _fill(folder)
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        save_checkpoint(tmp_path, 1, wrong, keep=1)
    assert _names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Not a directory.*No checkpoint had been written before"):
        save_checkpoint(tmp_path / "file" / "checkpoints", 1, _fill, keep=1)


def test_a_damaged_later_step_does_not_push_out_the_good_ones(tmp_path: Path) -> None:
    """Step 5 was damaged, so the run went on from 3; with room for one, saving 4 must leave 4."""
    for step in (3, 5):
        save_checkpoint(tmp_path, step, _fill, keep=2)
    (tmp_path / "000005" / "actor" / "weights").write_bytes(b"12x4")
    save_checkpoint(tmp_path, 4, _fill, keep=1)
    with pytest.warns(UserWarning, match="000005"):
        assert latest_checkpoint(tmp_path) == tmp_path / "000004"
    save_checkpoint(tmp_path, 5, _fill, keep=1)
    assert _names(tmp_path) == ["000005"]
    assert latest_checkpoint(tmp_path) == tmp_path / "000005"


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (None, "manifest.json"),
        ("", "JSONDecodeError"),
        ("{}", "lacks 'format'"),
        ("[]", "not a manifest"),
        ('{"format": 1, "sha256": 3}', "not a manifest"),
        ('{"format": 9, "sha256": {}}', "format 9"),
        ('{"format": 1, "sha256": {"gone": "0"}}', "gone"),
    ],
)
def test_a_wrong_manifest_is_passed_over(tmp_path: Path, manifest: str | None, problem: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, _fill, keep=2)
    path = tmp_path / "000002" / "manifest.json"
    path.unlink()
    if manifest is not None:
        path.write_text(manifest)
    with pytest.warns(UserWarning, match=rf"passing over the checkpoint .*000002: .*{problem}"):
        assert latest_checkpoint(tmp_path) == tmp_path / "000001"


def test_checkpoints_keep_the_newest_and_the_start(tmp_path: Path) -> None:
    for step in range(5):
        save_checkpoint(tmp_path, step, _fill, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000", "000003", "000004"]
    assert latest_checkpoint(tmp_path) == tmp_path / "000004"


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, _fill, keep=3)
    (tmp_path / "000002" / "actor" / "weights").write_bytes(b"12x4")
    with pytest.warns(UserWarning, match="weights does not match its checksum"):
        assert latest_checkpoint(tmp_path) == tmp_path / "000001"


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, _fill, keep=3)

    def full(folder: Path) -> None:
        _fill(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left.*000001, is intact.*resume"):
        save_checkpoint(tmp_path, 2, full, keep=3)
    assert [p.name for p in tmp_path.iterdir()] == ["000001"]


def test_leftovers_of_a_killed_save_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "half").write_bytes(b"")
    assert latest_checkpoint(tmp_path) is None
    saved = save_checkpoint(tmp_path, 1, _fill, keep=1)
    assert not (saved / "half").exists()


@pytest.mark.parametrize("matrix_lr", [0.0, 0.1])
def test_an_optimizer_continues_exactly(tmp_path: Path, matrix_lr: float) -> None:
    def steps(layer: torch.nn.Linear, optimizer: Optimizer, count: int) -> None:
        for i in range(count):
            optimizer.step([(layer(torch.tensor([[float(i), 1.0]])).pow(2).sum(), 1.0)])

    def fresh() -> tuple[torch.nn.Linear, Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(2, 2)
        return layer, Optimizer(layer, lr=0.1, clip=1.0, matrix_lr=matrix_lr)

    layer, optimizer = fresh()
    steps(layer, optimizer, 3)
    save_tensors(tmp_path / "m.safetensors", layer.state_dict())
    save_tensors(tmp_path / "o.safetensors", optimizer_state(optimizer.parts))
    steps(layer, optimizer, 3)
    again, other = fresh()
    load_module(tmp_path / "m.safetensors", again)
    load_optimizers(tmp_path / "o.safetensors", other.parts)
    steps(again, other, 3)
    assert torch.equal(layer.weight, again.weight) and torch.equal(layer.bias, again.bias)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m", torch.nn.Linear(2, 2, bias=False).state_dict())
    with pytest.raises(CheckpointError, match=r"m and the network .* differ in bias \(1 such"):
        load_module(tmp_path / "m", torch.nn.Linear(2, 2))
