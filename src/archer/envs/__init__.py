"""The tasks by name, and how a name, a class or a factory becomes an environment."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from archer.envs.base import Environment, close
from archer.envs.guess_number import GuessNumber
from archer.envs.loading import closest, load
from archer.envs.maze import Maze
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.wordle.env import Wordle

Factory = Callable[..., Environment]


@dataclass(frozen=True)
class EnvSpec:
    """A task that ships with the library."""

    factory: Factory
    description: str


ENVS: dict[str, EnvSpec] = {
    "guess-number": EnvSpec(GuessNumber, "Guess a number from 1 to 20 in at most 10 guesses: the smallest task."),
    "maze": EnvSpec(Maze, "Walk to the goal of LMRL-Gym's double-T maze, one field at a time."),
    "wordle": EnvSpec(Wordle, "Find a word of five letters in six guesses."),
    "wordle-resampled": EnvSpec(
        partial(Wordle, resampled=True), "The same with a word drawn anew from all that are possible (LMRL-Gym)."
    ),
    "twenty-questions": EnvSpec(
        TwentyQuestions, "Guess which of 157 objects is meant, in at most 20 yes/no questions."
    ),
    "twenty-questions-10": EnvSpec(
        partial(TwentyQuestions, objects="ten"), "The same with 10 objects: learnt in minutes on a laptop."
    ),
}


def task_name(target: str | Factory) -> str:
    """What a task is called in episodes and reports."""
    return target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)


def make_factory(target: str | Factory, options: Mapping[str, object]) -> Callable[[], Environment]:
    """A function that makes fresh copies of an environment, tried once.

    ``target`` is a name of ``ENVS``, ``package.module:Name``, a class or a factory; ``options`` are its keyword
    arguments. Raises ValueError naming the target or option that does not fit and what would.
    """
    factory = _resolve(target) if isinstance(target, str) else target
    name = task_name(target)
    if not callable(factory):
        raise ValueError(f"env: {name!r} is a {type(factory).__name__}; pass a class or a factory, not an instance")
    _check_options(name, factory, options)
    try:
        env = factory(**options)
    except Exception as error:
        raise ValueError(f"env: cannot make {name!r} with options {dict(options)}: {error}") from error
    for method in ("reset", "step"):
        if not callable(getattr(env, method, None)):
            raise ValueError(
                f"env: {name!r} makes a {type(env).__name__} without {method}(); an environment needs "
                "reset(*, seed, options) -> (observation, info) and "
                "step(utterance) -> (observation, reward, terminated, truncated, info)"
            )
    if not _takes(env.reset, "seed"):
        raise ValueError(f"env: reset() of {name!r} must take the keyword seed, so that its games can be repeated")
    close(env)
    return partial(factory, **options)


def _takes(function: Callable[..., object], keyword: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in callables have no signature to check against
        return True
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _resolve(name: str) -> Factory:
    if name in ENVS:
        return ENVS[name].factory
    if ":" not in name:
        raise ValueError(
            f"env.name: unknown {name!r}{closest(name, ENVS) or '.'} Known: {', '.join(ENVS)}; or package.module:Name"
        )
    factory: Factory = load(name, "env.name")
    return factory


def _check_options(name: str, factory: Factory, options: Mapping[str, object]) -> None:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built-in callables have no signature to check against
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            raise ValueError(
                f"env.options: {name!r} has no option {option!r}{closest(option, parameters) or '.'} "
                f"It has: {', '.join(parameters) or 'none'}."
            )
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if lacking := [name for name in missing if name not in options]:
        raise ValueError(f"env.options: {name!r} needs {', '.join(lacking)}")
