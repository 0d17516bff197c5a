"""Whether a launcher (`torchrun`, `accelerate launch`) has started several processes to work as one."""

from __future__ import annotations

import os


class EndedElsewhere(RuntimeError):
    """Another process of the run has ended. The message is empty where somebody else says why."""


def launched() -> int:
    """Processes that are to work together, this one among them; 1 without a launcher."""
    known = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ["WORLD_SIZE"]) if known else 1


def reports() -> bool:
    """Whether this process is the one that speaks to the user."""
    return launched() == 1 or int(os.environ["RANK"]) == 0
