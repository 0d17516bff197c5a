"""What `archer bench` measured, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from archer.report.console import print_grid, print_table


def print_speed(console: Console, found: Mapping[str, Any]) -> None:
    """Rates beside the reference's, the share of what the hardware allows, and what grows with what."""
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    print_table(
        console,
        f"This machine: {found['device']}, {threads}",
        {
            "matrix product, float32": f"{found['flops']['float32'] / 1e9:,.0f} GFLOP/s",
            "matrix product, bfloat16": f"{found['flops']['bfloat16'] / 1e9:,.0f} GFLOP/s",
            "memory": f"{found['bandwidth'] / 1e9:.0f} GB/s, read and written",
        },
    )
    header = ["measure", "archer", "reference", "ratio", "target", "roofline"]
    rows = []
    for measure in found["measures"]:
        spread = measure["spread"]
        rows.append(
            [
                f"{measure['name']} ({measure['unit']})",
                _with_spread(measure["ours"], spread["ours"]),
                _with_spread(measure["reference"], spread["reference"]),
                f"{measure['ratio']:.1f}x",
                f"{measure['target']:g}x" if measure["target"] else "",
                f"{measure['roofline']:.0%}, {measure['bound']}" if measure["roofline"] else "",
            ]
        )
    print_grid(console, "Speed, medians [slowest, fastest]", header, rows)
    growth = {
        f"a token in games of {turns} turns": f"{cost:.0f} µs" for turns, cost in found["token_us_by_turns"].items()
    }
    for turns, cost in found["batch_ms_by_replay_turns"].items():
        growth[f"a batch of 256 turns from {int(turns):,}"] = f"{cost:.2f} ms"
    growth["a turn in replay"] = f"{found['replay_bytes_per_turn']:.0f} bytes"
    print_table(console, "Growth", growth)


def _with_spread(value: float, ends: list[float]) -> str:
    return f"{value:,.4g}" if len(set(ends)) < 2 else f"{value:,.4g} [{ends[0]:,.4g}, {ends[1]:,.4g}]"
