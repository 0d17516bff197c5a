"""What a run will need on its device, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archer.config import RunConfig
from archer.planning.agents import Shapes
from archer.planning.games import Games
from archer.planning.phases import Course, Phase, Rehearsal
from archer.planning.pretending import Pretending

DEPTHS = (2, 3)
"""Layers of the models that stand for deep ones."""


@dataclass(frozen=True)
class Need:
    """What a phase takes, in bytes."""

    kept: int
    """What is there when it begins: weights, optimizer states, caches."""
    peak: int
    """The most at a time, gradients, activations and whatever else it takes included."""


@dataclass(frozen=True)
class Plan:
    """The memory of a run on the device that it learns and plays on."""

    device: str
    networks: Mapping[str, int]
    """Bytes of every network's weights; adapters apart from the model under them."""
    states: Mapping[str, int]
    """Bytes of the optimizer states of every network that learns."""
    host: int
    """Bytes of paged optimizer states, which move to the host's memory where the device's is short."""
    phases: Mapping[str, Need]
    games: str
    """The size of the games, and where it is from."""

    @property
    def peak(self) -> int:
        """The most at any time."""
        return max(need.peak for need in self.phases.values())

    @property
    def largest(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda name: self.phases[name].peak)

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "device": self.device, "peak": self.peak, "largest": self.largest, "games": self.games,
            "networks": dict(self.networks), "optimizer_states": dict(self.states), "host": self.host,
            "phases": {name: {"kept": need.kept, "peak": need.peak} for name, need in self.phases.items()},
        }  # fmt: skip


def plan(config: RunConfig, shapes: Shapes, games: Games) -> Plan:
    """The memory of a run with models and games of this size.

    Every phase is gone through on tensors without numbers. Where all layers of a model are alike, models of two depths
    stand for it: at every moment what is there grows with each layer by the same amount.
    """
    depth = shapes.layers
    if depth > DEPTHS[1] and shapes.alike:
        few, more = (Rehearsal(config, shapes.cut(layers), games, Pretending()).course() for layers in DEPTHS)
        course = _longer(few, more, depth)
    else:
        course = Rehearsal(config, shapes, games, Pretending()).course()
    phases = {phase.name: Need(phase.kept, max(phase.peaks)) for phase in course.phases}
    if config.rollout.overlap and "playing" in phases:
        playing = phases.pop("playing")
        learning = max(phase.peak for name, phase in phases.items() if not name.endswith("start"))
        phases["playing while learning"] = Need(playing.kept, learning + playing.peak - playing.kept)
    return Plan(config.device, course.networks, course.states, course.beside, phases, games.assumed)


def _longer(first: Course, second: Course, layers: int) -> Course:
    """The course of a run whose models have ``layers`` layers, from those of two that have ``DEPTHS``."""

    def line(a: int, b: int) -> int:
        return a + (b - a) * (layers - DEPTHS[0]) // (DEPTHS[1] - DEPTHS[0])

    def lines(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
        return {name: line(size, b[name]) for name, size in a.items()}

    phases = tuple(
        Phase(a.name, line(a.kept, b.kept), tuple(map(line, a.peaks, b.peaks)))
        for a, b in zip(first.phases, second.phases, strict=True)
    )
    return Course(
        lines(first.networks, second.networks), lines(first.states, second.states),
        line(first.beside, second.beside), phases,
    )  # fmt: skip
