"""Conversations out of a policy: a trained run's, or the scripted players' that a task brings."""

from __future__ import annotations

from collections.abc import Callable

from archer.api import LoadedRun
from archer.envs import Factory
from archer.envs.base import Demonstrated, Environment, ScriptedGame, ScriptedTask
from archer.envs.hosting import play_hosted
from archer.progress import Progress
from archer.rollout.play import host
from archer.seeds import collected_seeds
from archer.storage.conversations import from_episode

PLAYERS = ("demonstrator", "reference")
"""Scripted players that a task may bring."""


def collect_scripted(
    player: str, make_env: Callable[[], Environment], games: int, seed: int, progress: Progress | None = None
) -> list[ScriptedGame]:
    """Games of the task's own ``demonstrator`` or ``reference``; ValueError where it has none."""
    env = make_env()
    if player == "reference" and isinstance(env, ScriptedTask):
        begin = env.reference
    elif player == "demonstrator" and isinstance(env, Demonstrated):
        begin = env.demonstrator
    else:
        raise ValueError(f"the task has no {player}(seed) to collect games of")
    progress = progress or Progress(quiet=True)
    progress.stage("playing", games, unit="games")
    return play_hosted(make_env, env, begin, collected_seeds(games, seed), progress.count)


def collect_run(
    run: LoadedRun, games: int, seed: int, env: str | Factory | None = None, progress: Progress | None = None
) -> list[ScriptedGame]:
    """Games of a run as it plays, on its own task or on ``env``."""
    task, make_env = run.task(env)
    progress = progress or Progress(quiet=True)
    progress.stage("playing", games, unit="games")
    with host(make_env, run.config.rollout) as environments:
        episodes = run.player(run.config.eval.best_of)(
            run.actor, environments, collected_seeds(games, seed),
            task=task, sampling=run.sampling,
            limits=run.limits, layout=run.layout, report=progress.count,
        )  # fmt: skip
    return [from_episode(episode) for episode in episodes]
