"""Measure a policy on games that were never trained on."""

from __future__ import annotations

from collections.abc import Callable

from archer.envs.base import Environment, best_known_return, close
from archer.models.actor import Actor
from archer.rollout.play import Limits, play
from archer.rollout.prompts import LayoutMaker
from archer.rollout.sampling import Sampling
from archer.seeds import evaluation_seed
from archer.types import Episode


def evaluate_actor(
    actor: Actor,
    make_env: Callable[[], Environment],
    games: int,
    *,
    task: str,
    sampling: Sampling,
    limits: Limits,
    layout: LayoutMaker,
    policy_version: int,
    player: Callable[..., list[Episode]] = play,
    report: Callable[[int], None] = lambda games: None,
) -> list[Episode]:
    """Play the first ``games`` evaluation games, in the way of ``play`` or of another function with its arguments;
    ``report`` hears how many more are over."""
    seeds = [evaluation_seed(game) for game in range(games)]
    return player(
        actor, make_env, seeds,
        task=task, sampling=sampling, limits=limits, layout=layout, policy_version=policy_version,
        report=report,
    )  # fmt: skip


def reference_return(make_env: Callable[[], Environment]) -> float | None:
    """The best possible (or best known) return of the task, None where it does not tell."""
    env = make_env()
    try:
        return best_known_return(env)
    finally:
        close(env)
