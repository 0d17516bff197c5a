"""A memory plan as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from archer.report.console import print_grid, printable


def gib(size: int) -> str:
    """Bytes for people: GiB, or MiB where they are few."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def print_plan(console: Console, found: Mapping[str, Any]) -> None:
    """What ``archer plan`` found: networks, phases, whether it fits, and what to change."""
    states = found["optimizer_states"]
    names = [*found["networks"], *(name for name in states if name not in found["networks"])]
    rows = [[name, gib(found["networks"].get(name, 0)), gib(states[name]) if name in states else ""] for name in names]
    print_grid(console, "Networks", ["", "weights", "optimizer states"], rows)
    if found["host"]:
        console.print(f"and {gib(found['host'])} of paged optimizer states in the host's memory where room is short")
    rows = [
        [name, gib(need["kept"]), gib(need["peak"] - need["kept"]), gib(need["peak"])]
        for name, need in found["phases"].items()
    ]
    where = found["device"] if found["devices"] == 1 else f"each of {found['devices']} devices ({found['device']})"
    print_grid(console, f"Phases, on {where}", ["", "there before", "besides", "most at a time"], rows)
    console.print()
    console.print(Text(printable(f"Games: {found['games']}.")))
    console.print(_verdict(found))
    if found["changes"]:
        rows = [[" ".join(change["settings"]), gib(change["saves"]), change["costs"]] for change in found["changes"]]
        print_grid(console, "To change, in this order", ["--set", "saves", "costs"], rows)
    if "fits_then" in found:
        then = gib(found["peak_then"])
        told = f"Then {then} are needed, which fits." if found["fits_then"] else _too_large(found, then)
        console.print(told)


def _verdict(found: Mapping[str, Any]) -> Text:
    needed = f"Most is needed in one phase, {found['largest']}: {gib(found['peak'])}"
    if found["memory"] is None:
        return Text(f"{needed}. How much there is, is not known here; say --memory 80GB.")
    there = f"of {gib(found['memory'])}, {gib(found['spare'])} of them kept free"
    return Text(f"{needed} {there}. It {'fits' if found['fits'] else 'does not fit'}.", style="bold")


def _too_large(found: Mapping[str, Any], then: str) -> str:
    return f"Even then {then} are needed ({found['largest_then']}): take a smaller model or shorter games."
