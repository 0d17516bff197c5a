"""What a run learns before its first game: the supervised start, a critic, and what the actor takes from both.

Each of them may take hours, so each ends with a checkpoint of its own (the folder ``starts``), and a run that was
stopped goes on behind the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from archer import devices
from archer.algorithms.critic import follow_actor, start_critic
from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.likelihood import as_said_by
from archer.algorithms.supervised import clone, start_actor
from archer.beginning import Beginning
from archer.config import RunConfig
from archer.envs import Factory
from archer.measuring import demonstrations_metrics, measure, short_of_demonstrations
from archer.metrics import MetricLog, episode_metrics
from archer.progress import Progress
from archer.resuming import inherit, save
from archer.rollout.company import Company
from archer.rollout.demonstrations import count_steps
from archer.run import Run, Stage, assemble, attach_anchor, hold_out, keep_demonstrations, settle
from archer.storage.conversations import skipping
from archer.storage.runfolder import RunFolder
from archer.storage.shards import write_shard
from archer.streams import ACTOR_START, CRITIC_START, FOLLOWING, SUPERVISED
from archer.types import Episode

SPENT = "time/start_s"
"""The metric of what it took to get from the supervised start to where is measured."""


def clone_and_assemble(
    config: RunConfig,
    folder: RunFolder,
    target: str | Factory | None,
    begun: Beginning,
    progress: Progress,
    company: Company | None = None,
) -> tuple[Run, Sequence[Episode]]:
    """A new run with its supervised start, and the demonstrations; saved."""
    actor, demonstrations = begun.actor, begun.demonstrations
    settle(config, actor)
    if begun.skipped:
        progress.message(skipping(begun.skipped))
    cloned = bool(demonstrations) and _clones(config)
    if cloned:
        progress.stage("supervised start", count_steps(demonstrations, config.supervised))
        clone(actor, demonstrations, config.supervised, seed=[config.seed, 0, SUPERVISED], report=progress.advance)
    high = HIGH_LEVELS.get(config.critic.method)
    # Retrace asks for it, of this run or of one that goes on from it, when the actor is no longer the one that clones.
    if cloned or (demonstrations and high is not None and high.reweighs):
        progress.stage("likelihood of demonstrations", len(demonstrations), unit="games")
        demonstrations = as_said_by(actor, demonstrations, progress.count)
    if demonstrations:
        keep_games(folder.demonstrations_file, demonstrations, 0)
    run = assemble(config, folder, target, actor, demonstrations, begun.engine)
    run.company = company
    run.skipped, run.demonstrated = len(begun.skipped), len(demonstrations)
    run.inherited = inherit(run, begun)
    run.stage = Stage.CLONED
    if cloned:
        save(run)
    return run, demonstrations


def start(run: Run, shown: Callable[[], Sequence[Episode]], log: MetricLog, progress: Progress) -> None:
    """All that is learned between the supervised start and the first game, from the stage where the run stands;
    ``shown`` gives the demonstrations, where they are still asked for.

    The first line of the metrics and ``start.parquet`` are of the supervised start; where the actor goes on from there,
    the second line and ``offline.parquet`` are of what came of it.
    """
    if run.stage is Stage.READY:
        return
    config, demonstrations = run.config, shown()
    judged = bool(demonstrations) and config.critic.method != "none" and not run.inherited
    taught = judged and config.actor_start.epochs > 0
    learned, _ = hold_out(config, demonstrations)
    if run.stage is Stage.CLONED:
        began = time.perf_counter()
        if judged and config.critic_start.epochs:
            progress.stage("critic start", count_steps(learned, config.critic_start))
            start_critic(
                run.agent, learned, config.critic_start, config.critic,
                seed=[config.seed, 0, CRITIC_START], report=progress.advance,
            )  # fmt: skip
        known = demonstrations_metrics(demonstrations) | {SPENT: time.perf_counter() - began}
        found = _measure_before_games(run, log, progress, "the start", run.folder.path / "start.parquet", known)
        if _clones(config) and (hint := short_of_demonstrations(found, config.supervised.epochs)):
            progress.message(hint)
        run.stage = Stage.MEASURED
        if taught:
            save(run)
    if taught:
        spent = _learn_from_critic(run, learned, progress) + sum(row[SPENT] for row in run.folder.metrics())
        _measure_before_games(
            run, log, progress, "what the demonstrations taught", run.folder.path / "offline.parquet", {SPENT: spent}
        )
    keep_demonstrations(run, lambda: demonstrations)
    run.stage = Stage.READY
    save(run)
    if devices.first():
        run.folder.forget_starts()
    attach_anchor(run)


def _learn_from_critic(run: Run, learned: Sequence[Episode], progress: Progress) -> float:
    """The actor's start, and the critic's of what came of it; the seconds they took."""
    config, began = run.config, time.perf_counter()
    progress.stage("actor start", count_steps(learned, config.actor_start))
    start_actor(
        run.agent, learned, config.actor_start, config.actor,
        seed=[config.seed, 0, ACTOR_START], report=progress.advance,
    )  # fmt: skip
    run.agent.begin_anew()  # whatever plays was copied before that
    high = HIGH_LEVELS.get(config.critic.method)
    if (rounds := config.actor_start.critic_rounds) and high is not None and high.resamples:
        progress.stage("critic follows the actor", rounds)
        follow_actor(
            run.agent, learned, rounds, config.critic,
            sampler=run.sampler, seed=[config.seed, 0, FOLLOWING], report=progress.advance,
        )  # fmt: skip
    return time.perf_counter() - began


def _clones(config: RunConfig) -> bool:
    """Whether a run's actor learns from demonstrations alone first; one that goes on from another run's has done so."""
    return config.supervised.epochs > 0 and config.start_from is None


def _measure_before_games(
    run: Run, log: MetricLog, progress: Progress, what: str, shard: Path, known: Mapping[str, float]
) -> Mapping[str, float]:
    """Evaluate the agent, where there is an environment, and log that with what else is ``known``; what was found."""
    if run.make_env is None:
        return {}
    best = run.reference_return
    progress.stage(f"measuring {what}", run.config.eval.final_games, unit="games")
    episodes = measure(run, run.config.eval.final_games, progress.count)
    keep_games(shard, episodes, 0)
    found = {**episode_metrics(episodes, "eval"), **({} if best is None else {"eval/reference_return": best}), **known}
    log.log(0, {**found, "games": float(run.games), "warmup": 1.0})
    return found


def keep_games(path: Path, episodes: Sequence[Episode], iteration: int) -> None:
    """Write games into the run's folder, which one process does."""
    if devices.first():
        write_shard(path, episodes, iteration)
