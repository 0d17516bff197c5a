"""Training: ArCHer's Algorithm 1 as a page of plain calls, and the run around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from archer import devices
from archer.algorithms.actor import update_actor
from archer.algorithms.credit import assign_credit
from archer.algorithms.critic import update_critic
from archer.beginning import Beginning, begin
from archer.cluster.company import playing_on
from archer.cluster.joining import Cluster
from archer.config import RunConfig
from archer.envs import Factory, make_factory, settings_name, task_name
from archer.envs.base import Environment
from archer.gathering import gathering
from archer.health.critic import critic_health
from archer.launch import launched
from archer.measuring import Summary, finish, measure
from archer.metrics import MetricLog, NoLog, Tracker, at_limit, episode_metrics
from archer.progress import Progress
from archer.recipe import check_label
from archer.resuming import can_resume, restore, save
from archer.rollout.company import Games
from archer.run import NO_TASK, Run, prepare
from archer.starting import clone_and_assemble, keep_games, start
from archer.storage.runfolder import RunFolder
from archer.storage.shards import shard_path
from archer.streams import ACTOR, CRITIC
from archer.types import Episode


def learn(run: Run, log: MetricLog, progress: Progress) -> None:
    """Iterations until all are done."""
    with gathering(run) as gather:
        while run.iteration < run.config.iterations:
            iterate(run, gather, log, progress)


def iterate(run: Run, gather: Callable[[], Games], log: MetricLog, progress: Progress) -> None:
    """Play, keep, update the critic, update the actor, measure, save."""
    config = run.config
    began = time.perf_counter()
    number = run.iteration + 1
    drawn = run.sampler.tokens
    metrics: dict[str, float] = {}
    unseen = run.held_out
    if config.rollout.games:
        games = gather()
        episodes = games.episodes
        metrics |= episode_metrics(episodes, "rollout") | games.speed | games.faults.metrics
        metrics["rollout/at_limit"] = at_limit(episodes, config.rollout.utterance_tokens)
        played_by = np.mean([episode.policy_version for episode in episodes])
        metrics |= {"rollout/policy_lag": float(run.agent.policy_version - played_by)} | games.account
        run.replay.add(episodes)
        keep_games(shard_path(run.folder.episodes, number), episodes, number)
        unseen = episodes
    if run.agent.critic is not None and unseen:  # before it learns from them, if it ever does
        metrics |= critic_health(run.agent.critic, unseen, config.critic)
    credit = None
    if config.actor.method != "none":  # before the critic learns how these games went on
        credit = assign_credit(config.actor.advantage, run.replay, run.agent.critic, config.critic)
    if config.critic.method != "none":
        metrics |= update_critic(
            run.agent, run.replay, config.critic,
            sampler=run.sampler, seed=[config.seed, number, CRITIC],
            demonstrations=run.demonstrations, kept=run.kept_values,
        )  # fmt: skip
        run.agent.release_gradients()
    if config.actor.method != "none" and number > config.warmup:
        metrics |= update_actor(
            run.agent, run.anchor, run.replay, config.actor,
            sampler=run.sampler, seed=[config.seed, number, ACTOR],
            credit=credit, demonstrations=run.demonstrations,
        )  # fmt: skip
        run.agent.release_gradients()
    run.iteration = number
    if run.make_env is not None and config.eval.every and number % config.eval.every == 0:
        measured = measure(run, config.eval.games)
        metrics |= episode_metrics(measured, "eval")
        keep_games(shard_path(run.folder.evaluations, number), measured, number)
    metrics |= {"games": float(run.games), "warmup": float(number <= config.warmup)}
    metrics["rollout/sampled_tokens"] = float(run.sampler.tokens - drawn)
    metrics["time/iteration_s"] = time.perf_counter() - began
    log.log(number, metrics)
    save(run)
    progress.advance(metrics)


def train(
    config: RunConfig | None = None,
    run: str | Path = "runs/latest",
    *,
    env: Factory | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    trackers: tuple[Tracker, ...] = (),
    cluster: Cluster | None = None,
) -> Summary:
    """Train an agent from its supervised start to the end of its budget, into the folder ``run``.

    ``env`` is an environment class or factory of your own and takes the place of ``config.env.name``. With ``resume``
    the run in the folder goes on from its newest checkpoint, exactly as if it had never been stopped. With ``cluster``
    its games are played on the machines of one (and ``config.cluster`` says how).
    Raises ValueError for settings, RunFolderError for the folder, CheckpointError when the disk refuses,
    EnvironmentFailure when more games fail than ``rollout.max_failures``, EngineError when what plays cannot, and
    FloatingPointError when weights have diverged.
    """
    path = Path(run)
    config = RunFolder.open(path).config() if resume else config or RunConfig()
    if not resume:
        check_label(config)
        config = config if env is None else replace(config, env=replace(config.env, name=settings_name(env)))
    devices.check(config.device)
    _check_processes(config, cluster, new=not resume)
    target: str | Factory | None = env if env is not None else config.env.name
    make_env = None if target is None else make_factory(target, config.env.options)  # refused before there is a folder
    with devices.joined(config.device):
        if progress is None or not devices.first():
            progress = Progress(quiet=True)
        with (
            playing_on(cluster, config, progress.message) as recruit,
            RunFolder(path).lock() if devices.first() else nullcontext(),
        ):
            if resume and can_resume(RunFolder(path)):
                restored = restore(RunFolder.open(path), env)
                with (
                    recruit(target, restored.folder, restored.games_before, restored.iteration) as restored.company,
                    _logging(restored.folder, trackers, progress) as log,
                ):
                    return _go_on(restored, restored.folder.demonstrations, log, progress)
            task = NO_TASK if target is None else task_name(target)
            folder, begun = _begin(config, path, make_env, task, progress, again=resume)
            with (
                recruit(target, folder, begun.games_before, 0) as company,
                _logging(folder, trackers, progress) as log,
            ):
                assembled, shown = clone_and_assemble(config, folder, target, begun, progress, company)
                return _go_on(assembled, lambda: shown, log, progress)


def _check_processes(config: RunConfig, cluster: Cluster | None, *, new: bool) -> None:
    """Refuse what several processes cannot do, and what one cannot begin."""
    count = launched()
    if new and config.model.sharding != "none" and count == 1:
        raise ValueError(
            f"model.sharding={config.model.sharding!r} cuts networks into one shard per process, and there is one; "
            "start several (torchrun --nproc-per-node 2 -m -- archer train ...), or leave it out"
        )
    if count > 1 and cluster is not None:
        raise ValueError(f"--cluster is for one learner, and a launcher has started {count} processes; start one")
    if count > 1 and config.rollout.engine != "built-in":
        raise ValueError(
            f"rollout.engine={config.rollout.engine!r} plays for one process, and a launcher has started {count}; "
            "set rollout.engine='built-in', or start one"
        )


def _begin(
    config: RunConfig,
    path: Path,
    make_env: Callable[[], Environment] | None,
    task: str,
    progress: Progress,
    *,
    again: bool,
) -> tuple[RunFolder, Beginning]:
    """A run's folder and what it begins with; refuses what cannot work before anything is written. ``again``: in the
    folder of a run that was stopped before its first checkpoint."""
    if devices.first() and not again:
        RunFolder.check_free(path)
    prepare(config)
    begun = begin(config, make_env, task, progress)
    said = [turn.utterance.ids.tolist() for episode in begun.demonstrations for turn in episode.turns]
    devices.check_alike(begun.actor, said)
    return devices.told_by_first(lambda: RunFolder.emptied(path) if again else RunFolder.create(path, config)), begun


@contextmanager
def _logging(folder: RunFolder, trackers: tuple[Tracker, ...], progress: Progress) -> Iterator[MetricLog]:
    log = MetricLog(folder.path, trackers) if devices.first() else NoLog()
    try:
        yield log
    finally:
        log.close()
        progress.close()


def _go_on(run: Run, shown: Callable[[], Sequence[Episode]], log: MetricLog, progress: Progress) -> Summary:
    """From a checkpoint to the end; ``shown`` gives the demonstrations, where they are still asked for."""
    with run.environments or nullcontext():
        start(run, shown, log, progress)
        progress.stage("training", run.config.iterations, done=run.iteration)
        learn(run, log, progress)
        return finish(run, progress)
