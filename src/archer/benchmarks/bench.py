"""`archer bench`: everything that is measured, in order."""

from __future__ import annotations

from collections.abc import Callable
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


def bench(*, repeats: int, threads: int, model: Path | None, report: Callable[[str], None]) -> Report:
    """Measure playing and learning against the published arrangement; ``report`` hears what is done next.

    model: a causal LM to play with besides the built-in shapes.
    """
    torch.set_num_threads(threads)
    report("matrix rates and memory bandwidth")
    ceilings = measure_ceilings()
    measures: list[Measure] = []
    for dtype, target in ((torch.float32, None), (torch.bfloat16, 20.0)):
        report(f"playing with the built-in tiny model, {dtype}")
        measures.append(decoding(TINY, build_actor(TINY, dtype), ceilings, repeats=repeats, target=target))
    report("critic, actor and iteration")
    measures += learning(build_actor(TINY), TINY, ceilings, repeats=repeats)
    report("peak memory")
    measures.append(memory())
    seldom = max(1, repeats // 3)
    report("playing with GPT-2's shape")
    measures.append(decoding(GPT2, build_actor(GPT2, torch.bfloat16), ceilings, repeats=seldom, target=5.0))
    report("learning with GPT-2's shape")
    measures.append(large_critic(GPT2, ceilings, repeats=seldom))
    if model is not None:
        report(f"playing with {model}")
        actor = Actor.from_pretrained(model)
        measures.append(decoding(Shape(str(model), "", {}, games=16), actor, ceilings, repeats=seldom, target=None))
    report("growth")
    return Report(ceilings, tuple(measures), token_cost(TINY), replay_cost(), turn_bytes())
