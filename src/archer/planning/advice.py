"""What to change where a run does not fit: settings that cost little first, each tried by planning again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from archer import devices
from archer.config import RunConfig
from archer.config.layers import overlay, parse_assignment
from archer.envs.base import Environment
from archer.planning.agents import read_shapes
from archer.planning.games import Games, games_of
from archer.planning.plan import Plan, plan
from archer.planning.room import SPARE, memory_of, parse_bytes

WORTHWHILE = 0.01
"""Share of the peak that a change has to take off the largest phase to be told."""


@dataclass(frozen=True)
class Change:
    """Settings that make a run smaller."""

    settings: tuple[str, ...]
    """As for ``--set``."""
    saves: int
    """Bytes of the peak, after the changes before it."""
    costs: str
    """What is lost, in words."""


@dataclass(frozen=True)
class Advice:
    """Changes, in the order in which to make them."""

    changes: tuple[Change, ...]
    plan: Plan
    """With all of them."""
    fits: bool


@dataclass(frozen=True)
class _Idea:
    name: str
    change: dict[str, Any]
    costs: str


def advise(config: RunConfig, found: Plan, room: int, planning: Callable[[RunConfig], Plan]) -> Advice:
    """What to change until no more than ``room`` bytes are needed, as far as that can be."""
    changes: list[Change] = []
    tried: set[str] = set()
    while found.peak > room:
        idea = next((idea for idea in _ideas(config, found.largest) if idea.name not in tried), None)
        if idea is None:
            break
        tried.add(idea.name)
        smaller = overlay(config, idea.change, "plan")
        then = planning(smaller)
        # A phase that comes close behind keeps the peak where it is; it is the next to be made smaller.
        if found.peak - then.phases[found.largest].peak >= WORTHWHILE * found.peak:
            settings = (
                one for one in _assignments(idea.change, "") if overlay(config, parse_assignment(one), "plan") != config
            )
            changes.append(Change(tuple(settings), found.peak - then.peak, idea.costs))
            config, found = smaller, then
    return Advice(tuple(changes), found, found.peak <= room)


def _ideas(config: RunConfig, largest: str) -> Iterator[_Idea]:
    """What could make the ``largest`` phase smaller, the cheapest first; a name is of one try."""
    model, rollout = config.model, config.rollout
    playing = largest.startswith("playing")
    if not model.checkpointing and not playing:
        yield _Idea("checkpointing", {"model": {"checkpointing": True}}, "a third more arithmetic")
    yield from _smaller_parts(config, largest)
    if playing and rollout.parallel > 1:
        fewer = max(1, rollout.parallel // 4)
        yield _Idea(f"parallel {fewer}", {"rollout": {"parallel": fewer}}, "slower playing")
    whole = model.sharding == "none"
    learners = {name: config.optimized[name] for name in ("critic", "actor")}
    full = {name: part for name, part in learners.items() if part.states == "float32"}
    if whole and devices.count() > 1 and len(full) == len(learners) and not model.compile:
        yield _Idea("sharding", {"model": {"sharding": "full"}}, "weights are sent for every pass")
    if model.precision == "float32":
        yield _Idea("precision", {"model": {"precision": "bfloat16"}}, "rounding, where matrices are multiplied")
    starts = ("supervised", "critic_start", "actor_start")
    if full and whole and not model.lora.rank:
        eight: dict[str, Any] = {name: {"states": "8-bit"} for name in (*full, *starts)}
        if any(part.matrix_lr for part in (*full.values(), config.supervised)):
            eight = {name: {**change, "matrix_lr": 0.0} for name, change in eight.items()}
        yield _Idea("8-bit", eight, "rounded optimizer states; needs bitsandbytes")
    if rollout.overlap:
        yield _Idea("overlap", {"rollout": {"overlap": False}}, "playing and learning one after the other")
    if config.actor.averages:
        yield _Idea("average", {"actor": {"average": 0.0}}, "the newest weights play, not their mean")
    if config.actor.anchored:
        yield _Idea("kl", {"actor": {"kl": 0.0}}, "nothing holds the actor near its start")
    if not model.lora.rank and model.actor is not None and model.critic == "causal" and model.critic_model is None:
        rates = {name: {"matrix_lr": 0.0} for name in (*learners, *starts)}
        apart = {"rollout": {"overlap": False}} if rollout.overlap else {}
        lora = {"model": {"lora": {"rank": 16}, **({"compile": False} if model.compile else {})}}
        yield _Idea("lora", {**lora, **rates, **apart}, "adapters learn instead of all weights; needs PEFT")


def _smaller_parts(config: RunConfig, largest: str) -> Iterator[_Idea]:
    """A batch in more parts; at the start, where there are none, a smaller one."""
    for name in ("critic", "actor"):
        now = devices.enough_for_all(getattr(config, name).accumulation)
        if largest == f"{name} update" and now < 64:
            change = {name: {"accumulation": 4 * now}}
            yield _Idea(f"{name} {4 * now}", change, "none but less speed where parts are small")
    for phase, name in (("supervised start", "supervised"), ("critic start", "critic_start"),
                        ("actor start", "actor_start")):  # fmt: skip
        games = getattr(config, name).batch_games
        if largest == phase and games > 1:
            fewer = max(1, games // 4)
            yield _Idea(f"{name} {fewer}", {name: {"batch_games": fewer}}, "more and noisier steps at the start")


def _assignments(changes: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, value in changes.items():
        if isinstance(value, dict):
            yield from _assignments(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={str(value).lower() if isinstance(value, bool) else value}"


def report(
    config: RunConfig,
    make_env: Callable[[], Environment] | None,
    *,
    processes: int = 1,
    memory: str | None = None,
    turns: int | None = None,
    tokens: int | None = None,
) -> dict[str, Any]:
    """Plan a run and hold it against ``memory`` (`80GB`), or against what its device has; sizes are in bytes.

    processes: learn as one, each on such a device. Where it does not fit, ``changes`` are what to set and ``peak_then``
    is what comes of them. Nothing is loaded.
    """
    if config.model.sharding != "none" and processes == 1:
        raise ValueError(
            f"model.sharding={config.model.sharding!r} cuts networks into one shard per process; say how many with "
            "--devices"
        )
    device = memory_of(config.device) if memory is None else parse_bytes(memory)
    games = games_of(config, make_env, turns, tokens)
    with devices.pretended(processes):
        return _report(config, games, device)


def _report(config: RunConfig, games: Games, device: int | None) -> dict[str, Any]:
    found = plan(config, read_shapes(config), games)
    outcome: dict[str, Any] = {**found.summary(), "memory": device, "spare": None, "fits": None, "changes": []}
    if device is None:
        return outcome
    spare = int(SPARE * device)
    outcome |= {"spare": spare, "fits": found.peak <= device - spare}
    if outcome["fits"]:
        return outcome

    advice = advise(config, found, device - spare, lambda changed: plan(changed, read_shapes(changed), games))
    return outcome | {
        "changes": [dict(vars(change)) for change in advice.changes],
        "peak_then": advice.plan.peak, "largest_then": advice.plan.largest, "fits_then": advice.fits,
    }  # fmt: skip
