"""What `archer plan` foresees against what a real run asks torch's allocator for, phase by phase.

    python benchmarks/planning.py            # prints one JSON object per configuration
    python benchmarks/planning.py --only adapters

The same phases are gone through twice: on tensors without numbers, and on real ones in a fresh process (or the first of
two that learn as one) under torch's profiler, which notes every block that the allocator hands out and gets back: what
`max_memory_allocated` says of a GPU.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.profiler import ProfilerActivity, profile, record_function

from archer import devices
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.planning.agents import read_shapes
from archer.planning.games import alike
from archer.planning.phases import Rehearsal
from archer.planning.plan import plan
from archer.planning.pretending import Trace
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler

MODELS: dict[str, dict[str, int]] = {
    "small": {"num_hidden_layers": 4, "hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6},
    "larger": {"num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8},
}
ADAMW: dict[str, dict[str, Any]] = {
    name: {"matrix_lr": 0.0} for name in ("supervised", "critic_start", "actor_start", "critic", "actor")
}
SHARDS = {"sharding": "full"}
CONFIGURATIONS: dict[str, Mapping[str, Any]] = {
    "all weights": {},
    "recomputed layers": {"model": {"checkpointing": True}},
    "adapters": {"model": {"lora": {"rank": 16}}},
    "adapters, bfloat16": {"model": {"lora": {"rank": 16}, "precision": "bfloat16"}},
    "encoder critic": {"model": {"critic": "encoder"}},
    "two devices": {},
    "two devices, shards": {"model": SHARDS},
    "two devices, shards, recomputed layers": {"model": {**SHARDS, "checkpointing": True}},
    "two devices, shards, adapters": {"model": {**SHARDS, "lora": {"rank": 16}}},
}
TURNS, TOKENS = 4, 256
PHASE = "phase "
"""How the profiler is told where a phase begins."""


@dataclass(frozen=True)
class Benchmark:
    """Foreseen and measured memory of updates of small models."""

    only: str | None = None
    """One configuration."""
    size: str | None = None
    """One size of the model."""
    inside: bool = False
    """Measure in this process, and print bytes of every phase."""


class Real(Rehearsal):
    """A run on tensors that have numbers."""

    steps = 2

    def sampler(self, actor: Actor) -> SiblingSampler:
        return SiblingSampler(actor, Sampling.of(self.config.rollout))

    def play(self, agent: Agent) -> None:
        """Not without an environment."""


class Measuring(AbstractContextManager[Any]):
    """In the place of what pretends: tensors are real, and torch's profiler is told of every block of memory."""

    def __init__(self) -> None:
        self.peaks: list[int] = []
        """Bytes at the peak of every phase, once it is over."""
        self._phases = 0
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)

    def __enter__(self) -> Measuring:
        self._profile.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        self._profile.__exit__(*raised)  # type: ignore[no-untyped-call]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self._profile.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        phases = {event["name"]: event for event in events if str(event.get("name")).startswith(PHASE)}
        totals = [
            (event["ts"], event["args"]["Total Allocated"]) for event in events if event.get("name") == "[memory]"
        ]
        for number in range(self._phases):
            phase = phases[f"{PHASE}{number}"]
            within = (total for at, total in totals if 0 <= at - phase["ts"] <= phase["dur"])
            self.peaks.append(max(within, default=0))

    @contextmanager
    def making(self) -> Iterator[None]:
        """Nothing is pretended."""
        yield

    def course(self, run: Callable[[], Any]) -> Trace:
        """Go through a phase."""
        gc.collect()
        with record_function(f"{PHASE}{self._phases}"):
            run()
        self._phases += 1
        return Trace([0])


def main() -> None:
    """Measure all, or what was asked for."""
    benchmark = tyro.cli(Benchmark, description=__doc__)
    chosen = [name for name in CONFIGURATIONS if benchmark.only in (None, name)]
    sizes = [name for name in MODELS if benchmark.size in (None, name)]
    for size in sizes:
        for name in chosen:
            if benchmark.inside:
                with devices.joined("cpu"):
                    found = measure(name, size)
                    if devices.first():
                        print(json.dumps(found))
            else:
                print(json.dumps(compare(name, size)), flush=True)


def compare(name: str, size: str) -> dict[str, Any]:
    """Foreseen and measured MiB of every phase, and of the largest."""
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(name, size, Path(folder))
        with devices.pretended(processes(name)):
            found = plan(config, read_shapes(config), alike(config, TURNS, TOKENS, ""))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes(name) > 1 else []
    command = [sys.executable, *launcher, __file__, "--only", name, "--size", size, "--inside"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        raise RuntimeError(asked.stderr)
    measured: dict[str, int] = json.loads(asked.stdout.splitlines()[-1])
    both = {phase: (found.phases[phase].peak, peak) for phase, peak in measured.items()}
    most = max(foreseen for foreseen, _ in both.values()), max(measured.values())
    return {
        "size": size, "configuration": name, "ratio": round(most[0] / most[1], 3),
        "foreseen_mib": most[0] >> 20, "measured_mib": most[1] >> 20,
        "phases": {phase: [a >> 20, b >> 20, round(a / b, 3)] for phase, (a, b) in both.items()},
    }  # fmt: skip


def processes(name: str) -> int:
    """How many learn as one."""
    return 2 if name.startswith("two devices") else 1


def configuration(name: str, size: str, folder: Path) -> RunConfig:
    """A run with a model of that size, whose description is put into ``folder``."""
    shape = {
        "model_type": "llama", "vocab_size": 6000, "max_position_embeddings": 1024, "tie_word_embeddings": True,
        **MODELS[size],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape))
    learning = {"batch_turns": 48, "demonstrations": 0.0}
    common = {
        "model": {"actor": str(folder)},
        "rollout": {"max_tokens": TOKENS, "utterance_tokens": 16, "best_of": 0, "games": 8, "parallel": 8},
        "critic": learning,
        "actor": learning,
    }
    return overlay(overlay(overlay(RunConfig(), common, "benchmark"), ADAMW, "benchmark"), CONFIGURATIONS[name], name)


def measure(name: str, size: str) -> dict[str, int]:
    """Bytes at the peak of every phase but playing, which needs an environment."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(name, size, Path(folder))
        measuring = Measuring()
        course = Real(config, read_shapes(config), alike(config, TURNS, TOKENS, ""), measuring).course()
    found = dict(zip((phase.name for phase in course.phases), measuring.peaks, strict=True))
    del found["playing"]
    return found


if __name__ == "__main__":
    main()
