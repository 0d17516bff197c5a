"""Checkpoints: folders that are complete or absent, verified by checksums, with nothing pickled."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from archer.devices.quantised import is_quantised, restore
from archer.devices.sharding import cut_like, full
from archer.storage.files import sync, write_json

MANIFEST = "manifest.json"
FORMAT = 1
FIRST = "000000"
"""Name of the checkpoint before the first game."""


class UnreadableCheckpoint(UserWarning):
    """A checkpoint is passed over; the message says which and why."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says what is safe and what to do."""


def save_checkpoint(folder: Path, step: int, fill: Callable[[Path], None], *, keep: int) -> Path:
    """Let ``fill`` write files into a new folder ``folder/STEP`` and keep the newest ``keep`` ones, and step 0.

    The manifest with every file's checksum is written last, and the folder gets its name after that, so that a kill
    at any moment leaves the earlier checkpoints or this one too. Raises CheckpointError where the disk refuses.
    """
    final = folder / f"{step:06d}"
    temporary = folder / ".writing"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fill(temporary)
        entries = sorted(temporary.rglob("*"))
        for path in entries:
            sync(path)
        files = [path for path in entries if path.is_file()]
        sums = {str(path.relative_to(temporary)): _sha256(path) for path in files}
        write_json(temporary / MANIFEST, {"format": FORMAT, "step": step, "sha256": sums})
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        sync(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not _disk_refused(error):
            raise
        good = [path for path in _steps(folder) if _problem(path) is None]
        safe = f"The last checkpoint, {good[-1]}, is intact" if good else "No checkpoint had been written before"
        raise CheckpointError(
            f"cannot write the checkpoint of step {step} to {final}: {error}. {safe}. "
            "Make room or fix the permissions, then resume the run."
        ) from error
    # A later step that is still here was damaged when the run resumed before it: it must not push out good ones.
    for old in [path for path in _steps(folder) if int(path.name) <= step][:-keep]:
        if old.name != FIRST:  # what the KL penalty holds an actor near, and what others begin with
            shutil.rmtree(old)
    return final


def has_checkpoint(folder: Path) -> bool:
    """Whether one was written, damaged or not."""
    return bool(_steps(folder))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose files all match its manifest, None where none was ever written; others are passed
    over with a warning. Raises CheckpointError where there are only such."""
    unreadable: list[str] = []
    for path in reversed(_steps(folder)):
        problem = _problem(path)
        if problem is None:
            for other in unreadable:
                warnings.warn(f"passing over the checkpoint {other}", UnreadableCheckpoint, stacklevel=2)
            return path
        unreadable.append(f"{path}: {problem}")
    if unreadable:
        listed = "\n  ".join(unreadable)
        raise CheckpointError(
            f"no checkpoint of {folder.parent} can be read:\n  {listed}\n"
            "Put one back from a copy, or begin a new run, which can learn from this one's games too (--offline, with "
            "its episodes/*.parquet)"
        )
    return None


def _disk_refused(error: BaseException) -> bool:
    """Whether the disk, not the code, is at fault; safetensors and tokenizers wrap the OSError they met in text."""
    return isinstance(error, OSError) or "(os error " in str(error)


def _steps(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def _problem(path: Path) -> str | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return f"{MANIFEST} has format {manifest['format']!r}, this version reads {FORMAT}"
        for name, expected in manifest["sha256"].items():
            if _sha256(path / name) != expected:
                return f"{name} does not match its checksum"
    except KeyError as error:
        return f"{MANIFEST} lacks {error}"
    except (AttributeError, TypeError):
        return f"{MANIFEST} is not a manifest"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The counters of a checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    return state


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_module(path: Path, module: torch.nn.Module) -> None:
    """Read the weights and buffers of a module of the same shape; CheckpointError where it has others."""
    own = module.state_dict()
    state = load_file(path)
    if different := sorted(own.keys() ^ state.keys()):
        raise CheckpointError(
            f"{path} and the network that is to read it differ in {different[0]} ({len(different)} such weights): "
            "another version of the library wrote it; go on with that one, or train a new run"
        )
    module.load_state_dict({name: cut_like(tensor, own.get(name, tensor)) for name, tensor in state.items()})


def optimizer_state(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The per-parameter state of a network's optimizers, whole; their settings come from the run's configuration."""
    tensors: dict[str, Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        for index, parameter in enumerate(parameters):
            values: dict[str, Any] = optimizer.state.get(parameter, {})
            for name, value in values.items():
                if not name.startswith("qmap"):  # what eight bits stand for, the same everywhere
                    tensors[f"{number}.{index}.{name}"] = full(torch.as_tensor(value)).cpu().contiguous()
    return tensors


def load_optimizers(path: Path, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Read what ``optimizer_state`` gave."""
    known = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in optimizers]
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, tensor in load_file(path).items():
        number, index, name = key.split(".", 2)
        parameter = known[int(number)][int(index)]
        states[int(number)].setdefault(int(index), {})[name] = cut_like(tensor, parameter)
    for optimizer, state in zip(optimizers, states, strict=True):
        if is_quantised(optimizer):
            restore(optimizer, state)
        else:
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
