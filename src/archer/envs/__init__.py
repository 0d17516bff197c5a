"""The tasks by name, and how a name, a class or a factory becomes an environment."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from archer.envs.base import Environment
from archer.envs.twenty_questions.env import TwentyQuestions

Factory = Callable[..., Environment]


@dataclass(frozen=True)
class EnvSpec:
    """A task that ships with the library."""

    factory: Factory
    description: str


ENVS: dict[str, EnvSpec] = {
    "twenty-questions": EnvSpec(TwentyQuestions, "Guess which of 157 objects is meant, in at most 20 yes/no questions."),
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
    return partial(factory, **options)


def _resolve(name: str) -> Factory:
    if name in ENVS:
        return ENVS[name].factory
    module_name, colon, attribute = name.partition(":")
    if not colon:
        close = difflib.get_close_matches(name, ENVS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"env.name: unknown {name!r}.{hint} Known: {', '.join(ENVS)}; or package.module:Name")
    if os.getcwd() not in sys.path:  # a file beside the user's shell is what `module:Name` usually means
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"env.name: cannot import module {module_name!r}: {error}") from error
    try:
        factory: Factory = getattr(module, attribute)
    except AttributeError:
        names = [n for n in vars(module) if not n.startswith("_")]
        close = difflib.get_close_matches(attribute, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"env.name: module {module_name!r} has no {attribute!r}{hint}") from None
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
            raise ValueError(f"env.options: {name!r} has no option {option!r}; it has {', '.join(parameters) or 'none'}")
