"""How fast environments answer by themselves, on our seats, and in processes of their own; no model takes part.

    python benchmarks/environments.py [--game detective.z5] [--as-json]

A seat checks everything that an environment returns and is ready to replace it; a process is asked over a pipe. Medians
of several rounds, the three ways taking turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from archer.envs import ENVS, make_factory
from archer.envs.base import Demonstrated, Environment, Player
from archer.envs.hosting import Hosting
from archer.rollout.seat import Faults, Seat

ADAPTED: dict[str, tuple[str, Mapping[str, Any]]] = {
    "gymnasium": ("gymnasium", {"id": "Blackjack-v1", "actions": ["stick", "hit"]}),
    "textarena": ("textarena", {"id": "GuessTheNumber-v0"}),
    "textworld": ("textworld", {"games": 1, "held_out": 1}),
}
"""Adapters that need no file: their package and options."""


@dataclass(frozen=True)
class Speed:
    """Steps per second of one environment; resets are part of the time."""

    environment: str
    package: str
    alone: float
    seat: float
    process: float

    @property
    def overhead(self) -> float:
        """How many times as long a step takes on a seat."""
        return self.alone / self.seat


def main(game: Path | None = None, seconds: float = 1.0, rounds: int = 3, as_json: bool = False) -> None:
    """Measure all of them. game: file for the Z-machine; seconds: of each round."""
    wanted: dict[str, tuple[str, Mapping[str, Any]]] = {name: ("", {}) for name in ENVS} | ADAPTED
    if game is not None:
        wanted["z-machine"] = ("fernz", {"game": str(game), "shows": []})
        wanted["z-machine, jericho"] = (
            "jericho", {"game": str(game), "interpreter": "jericho", "shows": ["place", "inventory", "commands"]},
        )  # fmt: skip
    found = [measure(name, *what, seconds, rounds) for name, what in wanted.items()]
    if as_json:
        print(json.dumps([vars(speed) | {"overhead": speed.overhead} for speed in found]))
        return
    table = Table("environment", "package", "alone, steps/s", "seat", "ratio", "process")
    for speed in found:
        numbers = f"{speed.alone:,.0f}", f"{speed.seat:,.0f}", f"{speed.overhead:.2f}", f"{speed.process:,.0f}"
        table.add_row(speed.environment, speed.package, *numbers)
    Console().print(table)


def measure(name: str, package: str, options: Mapping[str, Any], seconds: float, rounds: int) -> Speed:
    """Steps per second in the three ways."""
    make = make_factory(name.partition(",")[0], options)
    env = make()
    if isinstance(env, Demonstrated):
        player: Callable[[int], Player] = env.demonstrator
    else:

        def player(seed: int) -> Player:
            return lambda observation: str(seed % 20 + 1)

    with Hosting(make, workers=1, processes=True) as processes:
        ways: dict[str, Callable[[], float]] = {
            "alone": lambda: _alone(env, player, seconds),
            "seat": lambda: _seated(Seat(make, Faults(1 << 30, 1.0), 0), player, seconds),
            "process": lambda: _seated(Seat(processes, Faults(1 << 30, 1.0), 0), player, seconds),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, steps_per_second in ways.items():
                rate = steps_per_second()
                if number:  # what is found once, in the first round, is not part of it
                    rates[way].append(rate)
    told = ""
    if package:
        try:
            told = f"{package} {version(package)}"
        except PackageNotFoundError:
            told = package
    return Speed(name, told, *(median(rates[way]) for way in ("alone", "seat", "process")))


def _games() -> Iterable[int]:
    seed = 0
    while True:
        yield seed
        seed += 2


def _alone(env: Environment, player: Callable[[int], Player], seconds: float) -> float:
    steps, began = 0, time.perf_counter()
    for seed in _games():
        observation, _ = env.reset(seed=seed)
        say, over = player(seed + 1), False
        while not over:
            observation, _, terminated, truncated, _ = env.step(say(observation))
            over = terminated or truncated
            steps += 1
        if time.perf_counter() - began > seconds:
            break
    return steps / (time.perf_counter() - began)


def _seated(seat: Seat, player: Callable[[int], Player], seconds: float) -> float:
    steps, began = 0, time.perf_counter()
    for seed in _games():
        heard = [seat.reset(seed)]
        said: list[str] = []
        say, over = player(seed + 1), False
        while not over:
            utterance = say(heard[-1])
            observation, _, terminated, truncated, _ = seat.step(seed, said, heard, utterance)
            heard.append(observation)
            said.append(utterance)
            over = terminated or truncated
            steps += 1
        if time.perf_counter() - began > seconds:
            break
    seat.close()
    return steps / (time.perf_counter() - began)


if __name__ == "__main__":
    tyro.cli(main)
