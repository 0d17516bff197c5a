"""What an environment is: text in, text out, in Gymnasium's shape. No base class is needed, only the two methods."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from archer.types import Episode, Observation

Player = Callable[[Observation], str]
"""A scripted player of one episode: hears each new observation, answers with an utterance."""

Info = Mapping[str, object]
StepResult = tuple[Observation, float, bool, bool, Info]
"""observation, reward, terminated, truncated, info."""

LONGEST = 1_000_000
"""Characters of an observation; nothing reads more, and a batch of such would fill the memory."""

LARGEST_REWARD = 1e9
"""No reward is so large: squares of sums of such are still numbers in float32."""


class ContractError(TypeError):
    """An environment returned something else than the text interface asks for; the message says what."""


class Environment(Protocol):
    """Any text environment. An observation is what is new since the last utterance."""

    def reset(self, *, seed: int | None = None, options: Mapping[str, object] | None = None) -> tuple[Any, Any]:
        """Start an episode: (observation, info)."""

    def step(self, utterance: str) -> tuple[Any, Any, Any, Any, Any]:
        """Say something: (observation, reward, terminated, truncated, info)."""


@runtime_checkable
class Demonstrated(Environment, Protocol):
    """A task that has a player to learn from."""

    def demonstrator(self, seed: int) -> Player:
        """A sub-optimal player for the supervised start."""


@runtime_checkable
class Referenced(Environment, Protocol):
    """A task that knows what it can be measured against."""

    def reference_return(self) -> float:
        """Expected undiscounted return of the best play known."""


@runtime_checkable
class ScriptedTask(Demonstrated, Referenced, Protocol):
    """What shipped tasks offer: players to learn from and to be measured against."""

    def reference(self, seed: int) -> Player:
        """The strongest scripted player known, whose mean return is ``reference_return``."""


NOT_UNDER_WAY = "the game is over or was never started: call reset() before step()"
"""What a step says where there is no game."""


def begin_episode(env: Environment, seed: int | None, options: Mapping[str, object] | None = None) -> Any:
    """What ``reset`` returns; environments need not take options where there are none."""
    return env.reset(seed=seed, **({"options": options} if options else {}))


def close(env: Environment) -> None:
    """Close an environment that can be closed; where that is a coroutine, on a loop of its own."""
    method = getattr(env, "close", None)
    closing = method() if method is not None else None
    if inspect.iscoroutine(closing):  # in a thread of its own: that of a notebook has a loop which is running already
        thread = threading.Thread(target=asyncio.run, args=(closing,))
        thread.start()
        thread.join()


@dataclass(frozen=True)
class ScriptedGame:
    """One game of a scripted player; entry t of each list belongs to turn t."""

    observations: tuple[Observation, ...]
    """What was heard before each utterance."""
    utterances: tuple[str, ...]
    rewards: tuple[float, ...]
    """NaN where they are not known."""
    infos: tuple[Info, ...]
    terminated: bool
    """Whether the task ended by itself rather than at a limit."""
    final_observation: Observation
    """What was heard after the last utterance."""
    played: Episode | None = field(default=None, compare=False)
    """The same game in the tokens of the policy that played it, where one did."""
    source: tuple[Path, int] | None = field(default=None, compare=False)
    """File and line (or row, from 1) that it was read from."""

    @property
    def answers(self) -> tuple[Observation, ...]:
        """What was heard after each utterance."""
        return (*self.observations[1:], self.final_observation)

    @property
    def return_(self) -> float:
        """Undiscounted sum of rewards."""
        return float(sum(self.rewards))

    @property
    def success(self) -> bool | None:
        """``info["success"]`` of the last turn where the environment reports it, else None."""
        flag = self.infos[-1].get("success")
        return None if flag is None else bool(flag)


def begin_player(begin: Callable[[int], Player], seed: int, what: str = "demonstrator") -> Player:
    """A scripted player of one episode, or a ContractError that says what is wrong with who makes it."""
    try:
        inspect.signature(begin).bind(seed)
    except TypeError as error:
        raise ContractError(f"{what}(seed) must take a seed: {error}") from None
    except ValueError:  # built-in callables have no signature to check against
        pass
    player: object = begin(seed)
    if not callable(player):
        raise ContractError(
            f"{what}(seed) must return a player, a function from an observation to what is said, got {_shape(player)}"
        )
    return player


def best_known_return(env: object) -> float | None:
    """The ``reference_return`` of a task, None where it does not tell; ContractError where that is no number."""
    if not isinstance(env, Referenced):
        return None
    told: Any = env.reference_return()
    try:
        value = math.nan if isinstance(told, str) else float(told)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ContractError(f"reference_return() must return a finite number, got {told!r}")
    return value


def check_observation(observation: object, where: str) -> Observation:
    """The observation itself, or a ContractError that says what is wrong with it."""
    if isinstance(observation, str) or (
        isinstance(observation, list)
        and all(
            isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
            for m in observation
        )
    ):
        length = len(observation) if isinstance(observation, str) else sum(len(m["content"]) for m in observation)
        if length > LONGEST:
            raise ContractError(f"{where} returned an observation of {length:,} characters; {LONGEST:,} are the most")
        return observation
    raise ContractError(
        f"{where} returned an observation of type {type(observation).__name__}; it must be a str or a list of "
        '{"role": str, "content": str} messages'
    )


def check_reset(result: object) -> tuple[Observation, Info]:
    """What ``reset`` returned, checked."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise ContractError(f"reset() must return (observation, info), got {_shape(result)}")
    observation, info = result
    return check_observation(observation, "reset()"), _check_info(info, "reset()")


def check_step(result: object) -> StepResult:
    """What ``step`` returned, checked; the reward as a finite float."""
    if not isinstance(result, tuple) or len(result) != 5:
        raise ContractError(
            f"step() must return (observation, reward, terminated, truncated, info), got {_shape(result)}"
        )
    observation, reward, terminated, truncated, info = result
    try:
        value = float(reward)
    except (TypeError, ValueError) as error:
        raise ContractError(f"step() returned the reward {reward!r}, which is not a number") from error
    if not -LARGEST_REWARD < value < LARGEST_REWARD:  # also refuses NaN
        raise ContractError(f"step() returned the reward {value}; rewards must be finite")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if type(flag).__name__ not in ("bool", "bool_"):  # numpy's count too, its 1.x and 2.x names included
            raise ContractError(f"step() returned {name} = {flag!r}; it must be a bool")
    return (
        check_observation(observation, "step()"),
        value,
        bool(terminated),
        bool(truncated),
        _check_info(info, "step()"),
    )


def _check_info(info: object, where: str) -> Info:
    if not isinstance(info, Mapping):
        raise ContractError(f"{where} returned an info of type {type(info).__name__}; it must be a mapping")
    return info


def _shape(result: object) -> str:
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else f"{type(result).__name__}"


def play_scripted_games(
    env: Environment,
    player: Callable[[int], Player],
    seeds: Iterable[int],
    report: Callable[[int], None] = lambda games: None,
) -> list[ScriptedGame]:
    """One game per seed of the environment; ``player`` makes a player from a seed of its own, ``report`` hears how many
    more games are over.

    That is another seed: a generator begun alike would know what the environment drew.
    """
    games: list[ScriptedGame] = []
    for seed in seeds:
        games.append(play_scripted(env, begin_player(player, seed + 1, getattr(player, "__name__", "player")), seed))
        report(1)
    return games


def play_scripted(
    env: Environment,
    player: Player,
    seed: int,
    max_turns: int = 1000,
    options: Mapping[str, object] | None = None,
) -> ScriptedGame:
    """Play one game of a scripted player to its end, or to ``max_turns``; ``options`` are those of ``reset``.

    Raises ContractError where the environment or the player returns something else than it should.
    """
    observation, _ = check_reset(begin_episode(env, seed, options))
    observations = [observation]
    utterances: list[str] = []
    rewards: list[float] = []
    infos: list[Info] = []
    terminated = truncated = False
    while not (terminated or truncated or len(utterances) >= max_turns):
        said: object = player(observation)
        if not isinstance(said, str):
            raise ContractError(f"a player must return a string, got {_shape(said)}")
        utterances.append(said)
        observation, reward, terminated, truncated, info = check_step(env.step(utterances[-1]))
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
    return ScriptedGame(
        observations=tuple(observations[:-1]),
        utterances=tuple(utterances),
        rewards=tuple(rewards),
        infos=tuple(infos),
        terminated=terminated,
        final_observation=observations[-1],
    )
