"""How much memory there is."""

from __future__ import annotations

import re
from pathlib import Path

import torch

UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("B", 10**3), ("IB", 2**10))
}
SPARE = 0.05
"""Share of the memory that is left to libraries, and to what an allocator cannot hand out."""


def parse_bytes(text: str) -> int:
    """``80GB`` (10⁹ bytes each) or ``80GiB`` (2³⁰) in bytes; ValueError for what is neither."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in UNITS or not float(found[1]):
        raise ValueError(f"--memory: a number of bytes such as 80GB or 24GiB is wanted, got {text!r}")
    return int(float(found[1]) * UNITS[found[2].upper()])


def memory_of(device: str) -> int | None:
    """Bytes that a device of this machine has in all, None where that cannot be found out."""
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(device).total_memory
    facts = Path("/proc/meminfo")
    if kind == "cpu" and facts.exists():
        return int(re.search(r"MemTotal:\s+(\d+)", facts.read_text())[1]) * 1024  # type: ignore[index]
    return None
