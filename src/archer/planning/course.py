"""What a run's memory was found to be on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """Something that a run does."""

    name: str
    kept: int
    """Bytes when it begins: weights, optimizer states, caches."""
    peaks: tuple[int, ...]
    """The most in every piece of it, what is kept included."""


@dataclass(frozen=True)
class Course:
    """A run with models of some depth."""

    networks: dict[str, int]
    """Bytes of the weights of every network."""
    states: dict[str, int]
    """Bytes of what the optimizer of each network that goes on learning keeps on the device."""
    beside: int
    """Bytes of optimizer states that may lie in the host's memory instead."""
    phases: tuple[Phase, ...]

    def lengthened(self, longer: Course, by: int) -> Course:
        """That of models with ``by`` layers more, where ``longer`` is of those with one more: everything grows by the
        same with each."""

        def line(a: int, b: int) -> int:
            return a + (b - a) * by

        def lines(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
            return {name: line(size, b[name]) for name, size in a.items()}

        phases = tuple(
            Phase(a.name, line(a.kept, b.kept), tuple(map(line, a.peaks, b.peaks)))
            for a, b in zip(self.phases, longer.phases, strict=True)
        )
        return Course(
            lines(self.networks, longer.networks), lines(self.states, longer.states), line(self.beside, longer.beside),
            phases,
        )  # fmt: skip
