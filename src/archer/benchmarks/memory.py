"""Peak memory of an iteration, in a process of its own: 128 games, then a critic step of 256 turns, its largest part;
with as many threads as the second argument says.

python -m archer.benchmarks.memory ours 1
python -m archer.benchmarks.memory published 1
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from archer.benchmarks.measure import Measure
from archer.benchmarks.published import Published
from archer.benchmarks.published import play_games as play_published
from archer.benchmarks.suite import BATCH, GAMES, critic_steps
from archer.benchmarks.workloads import TINY, Learning, build_actor, play_games


def ours() -> None:
    """Our arrangement."""
    actor = build_actor(TINY)
    critic_steps(Learning.of(actor, play_games(actor, TINY, GAMES), BATCH), 1)


def published() -> None:
    """The published one."""
    actor = build_actor(TINY)
    transitions = play_published(actor, TINY, GAMES)
    drawn = np.random.default_rng(0).choice(len(transitions), BATCH, replace=False)
    Published(actor).update_critic([transitions[index] for index in drawn])


ARRANGEMENTS: dict[str, Callable[[], None]] = {"ours": ours, "published": published}


def peak(arrangement: str) -> float:
    """MiB that an iteration takes beyond the loaded libraries, in a fresh process with as many threads as here."""
    command = [sys.executable, "-m", __name__, arrangement, str(torch.get_num_threads())]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory() -> Measure:
    """Peak memory of both; a ratio of 2 says that ours takes half. Linux only: it is the kernel that is asked."""
    mine, theirs = peak("ours"), peak("published")
    return Measure(
        "peak memory of games and a critic step", "MiB", mine, theirs, 2.0, (mine,), (theirs,), less_is_better=True
    )


def _resident(kind: str) -> float:
    """Resident memory of this process, MiB: `VmRSS` now, `VmHWM` at its peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) / 1024


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    actor = build_actor(TINY)
    play_games(actor, TINY, 2)  # compiles what is compiled: compilers take memory too
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    ARRANGEMENTS[sys.argv[1]]()
    print(_resident("VmHWM") - before)
