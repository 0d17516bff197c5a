"""All that docs/results.md is made of, in one command that can be stopped and goes on.

    python benchmarks/everything.py

Trains what is missing of the plan below and writes every table, picture and curve anew from what is kept. What is kept
is never trained again: with nothing missing this takes a minute. The plan is what is to be known; what of it is known
so far stands in the tables. On two cores the whole of it takes days, so it is ordered by what is asked first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ablation
import tyro
from ablation import Ablation
from sample_efficiency import Begun, Offline, Online, regenerate

RIVALS = ("turn-ppo", "grpo", "gigpo", "filtered-bc")
PAPER = ("archer-reinforce", "archer-mc", "archer-baseline", "archer-paper")
SMALL, LARGE = "twenty-questions-10", "twenty-questions"
OTHERS = {"service-desk": 10, "web-shop": 12, "guess-my-city": 10}
"""Tasks that nothing was tuned on, and `archer`'s iterations there."""
PLAN: Sequence[Online | Begun | Offline | Ablation] = (
    Online(SMALL, seeds=10, methods=("archer",), iterations=30),
    Online(SMALL, seeds=10, methods=("ppo",), iterations=104),
    Online(SMALL, seeds=5, methods=RIVALS, iterations=80),
    Online(SMALL, seeds=5, methods=("chai",), iterations=40),
    Begun(SMALL, seeds=5),
    Offline(SMALL, seeds=5),
    Ablation(SMALL, seeds=1),
    Online(LARGE, seeds=5, methods=("archer",), iterations=80),
    Online(LARGE, seeds=5, methods=("ppo",), iterations=521),
    *(Online(env, seeds=3, methods=("archer",), iterations=count) for env, count in OTHERS.items()),
    *(Online(env, seeds=3, methods=("ppo",), iterations=40) for env in OTHERS),
    Ablation(SMALL, seeds=3),
    Online(SMALL, seeds=5, methods=PAPER),
    Online(LARGE, seeds=3, methods=(*RIVALS, "chai", *PAPER)),
)
"""Task, seeds from 0 on, presets and their iterations (0: as many as the preset has)."""


@dataclass(frozen=True)
class Everything:
    """Train what is missing of the plan, then write the tables."""

    jobs: int = 2
    """Runs at once, one thread each."""
    runs: Path = Path("runs/benchmark")
    """Folder of all runs."""


def main() -> None:
    """One part of the plan after another."""
    chosen = tyro.cli(Everything, description=__doc__)
    for part in PLAN:
        here = replace(part, jobs=chosen.jobs, runs=chosen.runs)
        if isinstance(here, Ablation):
            ablation.regenerate(here)
        else:
            regenerate(here)


if __name__ == "__main__":
    main()
