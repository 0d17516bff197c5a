"""Training: ArCHer's Algorithm 1 as a page of plain calls, and the run around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from archer import devices
from archer.algorithms.actor import update_actor
from archer.algorithms.credit import assign_credit
from archer.algorithms.critic import follow_actor, start_critic, update_critic
from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.likelihood import as_said_by
from archer.algorithms.supervised import clone, start_actor
from archer.beginning import Beginning, begin
from archer.cluster.company import playing_on
from archer.cluster.joining import Cluster
from archer.config import RunConfig
from archer.envs import Factory, make_factory, settings_name, task_name
from archer.envs.base import Environment
from archer.gathering import gathering
from archer.health.critic import critic_health
from archer.launch import launched
from archer.measuring import Summary, demonstrations_metrics, finish, measure, short_of_demonstrations
from archer.metrics import MetricLog, NoLog, Tracker, at_limit, episode_metrics
from archer.progress import Progress
from archer.resuming import inherit, restore, save
from archer.rollout.company import Company, Games
from archer.rollout.demonstrations import count_steps
from archer.run import NO_TASK, Run, assemble, attach_anchor, hold_out, keep_demonstrations, prepare, settle
from archer.storage.conversations import skipping
from archer.storage.runfolder import RunFolder
from archer.storage.shards import shard_path, write_shard
from archer.types import Episode

# Purposes of the random streams. Every draw derives from (run seed, iteration, purpose): no generator needs to be
# saved, and a resumed run draws what the uninterrupted one would have.
CRITIC, ACTOR, SUPERVISED, CRITIC_START, ACTOR_START, FOLLOWING = 1, 2, 3, 4, 5, 6


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
        _keep(shard_path(run.folder.episodes, number), episodes, number)
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
        _keep(shard_path(run.folder.evaluations, number), measured, number)
    metrics |= {"games": float(run.games), "warmup": float(number <= config.warmup)}
    metrics["rollout/sampled_tokens"] = float(run.sampler.tokens - drawn)
    metrics["time/iteration_s"] = time.perf_counter() - began
    log.log(number, metrics)
    save(run)
    progress.advance(metrics)


def _keep(path: Path, episodes: Sequence[Episode], iteration: int) -> None:
    """Write games into the run's folder, which one process does."""
    if devices.first():
        write_shard(path, episodes, iteration)


def start(
    config: RunConfig,
    folder: RunFolder,
    target: str | Factory | None,
    begun: Beginning,
    log: MetricLog,
    progress: Progress,
    company: Company | None = None,
) -> Run:
    """A new run up to its first checkpoint, with all that is learned before the first game: the supervised start, a
    fresh critic's start, and what the actor takes from the demonstrations once there is a critic to judge them.

    The first line of the metrics and ``start.parquet`` are of the supervised start; where the actor goes on from there,
    the second line and ``offline.parquet`` are of what came of it.
    """
    actor, demonstrations = begun.actor, begun.demonstrations
    settle(config, actor)
    if begun.skipped:
        progress.message(skipping(begun.skipped))
    cloned = bool(demonstrations) and config.supervised.epochs > 0 and begun.source is None
    if cloned:
        progress.stage("supervised start", count_steps(demonstrations, config.supervised))
        clone(actor, demonstrations, config.supervised, seed=[config.seed, 0, SUPERVISED], report=progress.advance)
    high = HIGH_LEVELS.get(config.critic.method)
    # Retrace asks for it, of this run or of one that goes on from it, when the actor is no longer the one that clones.
    if cloned or (demonstrations and high is not None and high.reweighs):
        progress.stage("likelihood of demonstrations", len(demonstrations), unit="games")
        demonstrations = as_said_by(actor, demonstrations, progress.count)
    if demonstrations:
        _keep(folder.demonstrations_file, demonstrations, 0)
    run = assemble(config, folder, target, actor, demonstrations, begun.engine)
    run.company = company
    run.skipped = len(begun.skipped)
    inherited = inherit(run, begun)
    learned, _ = hold_out(config, demonstrations)
    judged = bool(demonstrations) and config.critic.method != "none" and not inherited
    began = time.perf_counter()
    if judged and config.critic_start.epochs:
        progress.stage("critic start", count_steps(learned, config.critic_start))
        start_critic(
            run.agent, learned, config.critic_start, config.critic,
            seed=[config.seed, 0, CRITIC_START], report=progress.advance,
        )  # fmt: skip
    spent = time.perf_counter() - began
    found = _measure_before_games(
        run, log, progress, "the start", folder.path / "start.parquet", spent, demonstrations_metrics(demonstrations)
    )
    if cloned and (hint := short_of_demonstrations(found, config.supervised.epochs)):
        progress.message(hint)
    if judged and config.actor_start.epochs:
        began = time.perf_counter()
        progress.stage("actor start", count_steps(learned, config.actor_start))
        start_actor(
            run.agent, learned, config.actor_start, config.actor,
            seed=[config.seed, 0, ACTOR_START], report=progress.advance,
        )  # fmt: skip
        run.agent.begin_anew()  # whatever plays was copied before that
        if (rounds := config.actor_start.critic_rounds) and high is not None and high.resamples:
            progress.stage("critic follows the actor", rounds)
            follow_actor(
                run.agent, learned, rounds, config.critic,
                sampler=run.sampler, seed=[config.seed, 0, FOLLOWING], report=progress.advance,
            )  # fmt: skip
        spent += time.perf_counter() - began
        _measure_before_games(
            run, log, progress, "what the demonstrations taught", folder.path / "offline.parquet", spent, {}
        )
    keep_demonstrations(run, lambda: demonstrations)
    save(run)
    attach_anchor(run)
    return run


def _measure_before_games(
    run: Run,
    log: MetricLog,
    progress: Progress,
    what: str,
    shard: Path,
    seconds: float,
    known: Mapping[str, float],
) -> Mapping[str, float]:
    """Evaluate the agent, where there is an environment, and log that with what else is ``known``; what was found.
    ``seconds`` is what it took to get from the supervised start to here."""
    if run.make_env is None:
        return {}
    progress.stage(f"measuring {what}", run.config.eval.final_games, unit="games")
    episodes = measure(run, run.config.eval.final_games, progress.count)
    _keep(shard, episodes, 0)
    best = run.reference_return
    found = {**episode_metrics(episodes, "eval"), **({} if best is None else {"eval/reference_return": best}), **known}
    log.log(0, {**found, "games": float(run.games), "warmup": 1.0, "time/start_s": seconds})
    return found


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
    if env is not None and not resume:
        config = replace(config, env=replace(config.env, name=settings_name(env)))
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
            if resume:
                restored = restore(RunFolder.open(path), env)
                with (
                    recruit(target, restored.folder, restored.games_before, restored.iteration) as restored.company,
                    _logging(restored.folder, trackers, progress) as log,
                ):
                    return _go_on(restored, log, progress)
            folder, begun = _begin(config, path, make_env, NO_TASK if target is None else task_name(target), progress)
            with (
                recruit(target, folder, begun.games_before, 0) as company,
                _logging(folder, trackers, progress) as log,
            ):
                return _go_on(start(config, folder, target, begun, log, progress, company), log, progress)


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
    config: RunConfig, path: Path, make_env: Callable[[], Environment] | None, task: str, progress: Progress
) -> tuple[RunFolder, Beginning]:
    """A new run's folder and what it begins with; refuses what cannot work before anything is written."""
    if devices.first():
        RunFolder.check_free(path)
    prepare(config)
    begun = begin(config, make_env, task, progress)
    said = [turn.utterance.ids.tolist() for episode in begun.demonstrations for turn in episode.turns]
    devices.check_alike(begun.actor, said)
    folder = devices.told_by_first(lambda: RunFolder.create(path, config))
    return folder, begun


@contextmanager
def _logging(folder: RunFolder, trackers: tuple[Tracker, ...], progress: Progress) -> Iterator[MetricLog]:
    log = MetricLog(folder.path, trackers) if devices.first() else NoLog()
    try:
        yield log
    finally:
        log.close()
        progress.close()


def _go_on(run: Run, log: MetricLog, progress: Progress) -> Summary:
    """From a checkpoint to the end."""
    progress.stage("training", run.config.iterations, done=run.iteration)
    with run.environments or nullcontext():
        learn(run, log, progress)
        return finish(run, progress)
