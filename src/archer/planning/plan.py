"""What a run will need on its device, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archer import devices
from archer.config import RunConfig
from archer.planning.agents import Shapes
from archer.planning.games import Games
from archer.planning.phases import Rehearsal
from archer.planning.pretending import Pretending

FEW = 2
"""Layers of the smaller of both models that stand for deep ones; the other has one more."""


@dataclass(frozen=True)
class Need:
    """What a phase takes, in bytes."""

    kept: int
    """What is there when it begins: weights, optimizer states, caches."""
    peak: int
    """The most at a time, gradients, activations and whatever else it takes included."""


@dataclass(frozen=True)
class Plan:
    """The memory of a run on the device that it learns and plays on, or on each of several."""

    device: str
    devices: int
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
            "device": self.device, "devices": self.devices, "games": self.games, "peak": self.peak,
            "largest": self.largest,
            "networks": dict(self.networks), "optimizer_states": dict(self.states), "host": self.host,
            "phases": {name: {"kept": need.kept, "peak": need.peak} for name, need in self.phases.items()},
        }  # fmt: skip


def plan(config: RunConfig, shapes: Shapes, games: Games) -> Plan:
    """The memory of a run with models and games of this size; of one process among ``devices.pretended``, if within.

    Every phase is gone through on tensors without numbers. Where all layers of a model are alike, models of two depths
    stand for it: at every moment what is there grows with each layer by the same amount.
    """
    depth = shapes.layers
    if depth > FEW + 1 and shapes.alike:
        few, more = (
            Rehearsal(config, shapes.cut(layers), games, Pretending(config.device)).course()
            for layers in (FEW, FEW + 1)
        )
        course = few.lengthened(more, depth - FEW)
    else:
        course = Rehearsal(config, shapes, games, Pretending(config.device)).course()
    phases = {phase.name: Need(phase.kept, max(phase.peaks)) for phase in course.phases}
    if config.rollout.overlap and "playing" in phases:
        playing = phases.pop("playing")
        learning = max(phase.peak for name, phase in phases.items() if not name.endswith("start"))
        phases["playing while learning"] = Need(playing.kept, learning + playing.peak - playing.kept)
    return Plan(config.device, devices.count(), course.networks, course.states, course.beside, phases, games.assumed)
