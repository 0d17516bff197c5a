"""`archer bench`: everything that is measured, in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from archer.benchmarks.growth import replay_cost, token_cost, turn_bytes
from archer.benchmarks.measure import Measure
from archer.benchmarks.memory import memory
from archer.benchmarks.roofline import Ceilings, measure_ceilings
from archer.benchmarks.suite import decoding, large_critic, learning
from archer.benchmarks.workloads import GPT2, TINY, Shape, build_actor
from archer.models.actor import Actor
from archer.progress import Progress


@dataclass(frozen=True)
class Report:
    """What was measured on this machine."""

    ceilings: Ceilings
    measures: tuple[Measure, ...]
    token_us: dict[int, float]
    """Microseconds per token of a conversation, by its turns."""
    batch_ms: dict[int, float]
    """Milliseconds to draw 256 turns, by the turns that replay holds."""
    turn_bytes: float
    """Bytes that replay keeps for each turn."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "device": self.ceilings.device,
            "threads": self.ceilings.threads,
            "flops": self.ceilings.flops,
            "bandwidth": self.ceilings.bandwidth,
            "measures": [measure.plain() for measure in self.measures],
            "token_us_by_turns": self.token_us,
            "batch_ms_by_replay_turns": self.batch_ms,
            "replay_bytes_per_turn": self.turn_bytes,
        }


def bench(*, repeats: int, threads: int, model: Path | None, progress: Progress) -> Report:
    """Measure playing and learning against the published arrangement.

    model: a causal LM to play with besides the built-in shapes.
    """
    torch.set_num_threads(threads)
    progress.stage("bench", 10 if model is None else 11, unit="measurements")
    progress.message("matrix rates and memory bandwidth")
    ceilings = measure_ceilings()
    progress.count(1)
    measures: list[Measure] = []

    def keep(measure: Measure) -> None:
        measures.append(measure)
        progress.count(1)

    for dtype, target in ((torch.float32, None), (torch.bfloat16, 20.0)):
        progress.message(f"playing with the built-in tiny model, {dtype}")
        keep(decoding(TINY, build_actor(TINY, dtype), ceilings, repeats=repeats, target=target))
    progress.message("critic, actor and iteration")
    for measure in learning(build_actor(TINY), TINY, ceilings, repeats=repeats):
        keep(measure)
    progress.message("peak memory")
    keep(memory())
    seldom = max(1, repeats // 3)
    progress.message("playing with GPT-2's shape")
    keep(decoding(GPT2, build_actor(GPT2, torch.bfloat16), ceilings, repeats=seldom, target=5.0))
    progress.message("learning with GPT-2's shape")
    keep(large_critic(GPT2, ceilings, repeats=seldom))
    if model is not None:
        progress.message(f"playing with {model}")
        actor = Actor.from_pretrained(model)
        keep(decoding(Shape(str(model), "", {}, games=16), actor, ceilings, repeats=seldom, target=None))
    progress.message("growth")
    report = Report(ceilings, tuple(measures), token_cost(TINY), replay_cost(), turn_bytes())
    progress.count(1)
    return report
