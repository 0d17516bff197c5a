"""Training: ArCHer's Algorithm 1 as a page of plain calls, and the run around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archer.algorithms.actor import update_actor
from archer.algorithms.credit import assign_credit
from archer.algorithms.critic import start_critic, update_critic
from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.likelihood import as_said_by
from archer.algorithms.supervised import clone, start_actor
from archer.beginning import Beginning, begin
from archer.config import RunConfig
from archer.envs import Factory, make_factory, task_name
from archer.evaluation import evaluate_actor, reference_return
from archer.files import write_json
from archer.gathering import Games, gathering
from archer.health.critic import critic_health
from archer.metrics import MetricLog, Tracker, episode_metrics
from archer.progress import Progress
from archer.report.curve import plot_curve
from archer.rollout.demonstrations import count_steps
from archer.run import NO_TASK, Run, assemble, attach_anchor, inherit, keep_demonstrations, prepare, restore, save
from archer.runfolder import RunFolder
from archer.storage import count_rows, read_shard, shard_path, write_shard
from archer.types import Episode

# Purposes of the random streams. Every draw derives from (run seed, iteration, purpose): no generator needs to be
# saved, and a resumed run draws what the uninterrupted one would have.
CRITIC, ACTOR, SUPERVISED, CRITIC_START, ACTOR_START = 1, 2, 3, 4, 5


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
    metrics: dict[str, float] = {}
    if config.rollout.games:
        games = gather()
        episodes = games.episodes
        metrics |= episode_metrics(episodes, "rollout") | games.speed | games.faults.metrics
        metrics["rollout/policy_lag"] = float(run.agent.policy_version - episodes[0].policy_version)
        if run.agent.critic is not None:  # before it learns from them
            metrics |= critic_health(run.agent.critic, episodes, config.critic)
        run.replay.add(episodes)
        write_shard(shard_path(run.folder.episodes, number), episodes, number)
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
        metrics |= episode_metrics(measure(run, config.eval.games), "eval")
    metrics |= {"games": float(run.games), "warmup": float(number <= config.warmup)}
    metrics["time/iteration_s"] = time.perf_counter() - began
    log.log(number, metrics)
    save(run)
    progress.advance(metrics)


def measure(run: Run, games: int) -> list[Episode]:
    """Evaluation games of the policy as it is."""
    assert run.environments is not None, "only where there is an environment"
    return evaluate_actor(
        run.agent.policy, run.environments, games,
        task=run.task, sampling=run.sampling, limits=run.limits, layout=run.layout,
        policy_version=run.agent.policy_version, player=run.player(run.config.eval.best_of),
    )  # fmt: skip


def start(
    config: RunConfig,
    folder: RunFolder,
    target: str | Factory | None,
    begun: Beginning,
    log: MetricLog,
    progress: Progress,
) -> Run:
    """A new run up to its first checkpoint, with all that is learned before the first game: the supervised start, a
    fresh critic's start, and what the actor takes from the demonstrations once there is a critic to judge them.

    The first line of the metrics and ``start.parquet`` are of the supervised start; where the actor goes on from there,
    the second line and ``offline.parquet`` are of what came of it.
    """
    actor, demonstrations = begun.actor, begun.demonstrations
    if begun.skipped:
        progress.message(f"{begun.skipped} malformed conversations were skipped")
    if demonstrations and config.supervised.epochs and begun.source is None:
        progress.stage("supervised start", count_steps(demonstrations, config.supervised))
        clone(actor, demonstrations, config.supervised, seed=[config.seed, 0, SUPERVISED], report=progress.advance)
    high = HIGH_LEVELS.get(config.critic.method)
    if high is not None and high.reweighs:
        demonstrations = as_said_by(actor, demonstrations)
    if demonstrations:
        write_shard(folder.demonstrations_file, demonstrations, 0)
    run = assemble(config, folder, target, actor, demonstrations)
    inherited = inherit(run, begun)
    judged = bool(demonstrations) and config.critic.method != "none" and not inherited
    began = time.perf_counter()
    if judged and config.critic_start.epochs:
        progress.stage("critic start", count_steps(demonstrations, config.critic_start))
        start_critic(
            run.agent, demonstrations, config.critic_start, config.critic,
            seed=[config.seed, 0, CRITIC_START], report=progress.advance,
        )  # fmt: skip
    spent = time.perf_counter() - began
    _measure_before_games(run, log, progress, "the start", folder.path / "start.parquet", spent)
    if judged and config.actor_start.epochs:
        began = time.perf_counter()
        progress.stage("actor start", count_steps(demonstrations, config.actor_start))
        start_actor(
            run.agent, demonstrations, config.actor_start, config.actor,
            seed=[config.seed, 0, ACTOR_START], report=progress.advance,
        )  # fmt: skip
        spent += time.perf_counter() - began
        run.agent.begin_anew()  # whatever plays was copied before that
        _measure_before_games(
            run, log, progress, "what the demonstrations taught", folder.path / "offline.parquet", spent
        )
    keep_demonstrations(run, lambda: demonstrations)
    save(run)
    attach_anchor(run)
    return run


def _measure_before_games(run: Run, log: MetricLog, progress: Progress, what: str, shard: Path, seconds: float) -> None:
    """Evaluate the agent; ``seconds`` is what it took to get from the supervised start to here."""
    if run.make_env is not None:
        progress.message(f"measuring {what}")
        episodes = measure(run, run.config.eval.final_games)
        write_shard(shard, episodes, 0)
        found = episode_metrics(episodes, "eval")
        log.log(0, {**found, "games": float(run.games), "warmup": 1.0, "time/start_s": seconds})


@dataclass(frozen=True)
class Summary:
    """What a finished run reports; returns are means over evaluation games with half-widths of 95 % intervals.

    Without an environment nothing is measured: returns and curve are None.
    """

    run: str
    task: str
    start_return: float | None
    start_ci95: float | None
    return_mean: float | None
    return_ci95: float | None
    reference_return: float | None
    gap_closed: float | None
    """Share of the way from the start to the reference, None where there is no reference."""
    games: int
    """Games played for training, warm-up and the runs that this one goes on from included."""
    demonstrations: int
    curve: str | None


def finish(run: Run) -> Summary:
    """Write ``summary.json``; with an environment, evaluate the trained actor and draw the curve."""
    outcome = {} if run.make_env is None else _outcome(run)
    blank = dict.fromkeys(
        ("start_return", "start_ci95", "return_mean", "return_ci95", "reference_return", "gap_closed", "curve")
    )
    summary = Summary(
        run=str(run.folder.path),
        task=run.task,
        games=run.games,
        demonstrations=count_rows(run.folder.demonstrations_file),
        **(blank | outcome),
    )
    write_json(run.folder.summary_file, summary.__dict__)
    return summary


def _outcome(run: Run) -> dict[str, Any]:
    """What the evaluations at both ends come to, and the curve between them."""
    assert run.make_env is not None
    episodes = measure(run, run.config.eval.final_games)
    write_shard(run.folder.path / "final.parquet", episodes, run.iteration)
    after = episode_metrics(episodes, "eval")
    rows = run.folder.metrics()
    before = rows[0]
    best = reference_return(run.make_env)
    gap = None if best is None else best - before["eval/return_mean"]
    plot_curve(
        [*rows, {**after, "iteration": run.iteration, "games": run.games, "warmup": 0.0}],
        run.folder.curve_file,
        start_return=before["eval/return_mean"],
        reference_return=best,
        title=f"{run.task}, {run.config.preset}, seed {run.config.seed}",
    )
    return {
        "start_return": before["eval/return_mean"],
        "start_ci95": before["eval/return_ci95"],
        "return_mean": after["eval/return_mean"],
        "return_ci95": after["eval/return_ci95"],
        "reference_return": best,
        "gap_closed": (after["eval/return_mean"] - before["eval/return_mean"]) / gap if gap else None,
        "curve": str(run.folder.curve_file),
    }


def train(
    config: RunConfig | None = None,
    run: str | Path = "runs/latest",
    *,
    env: Factory | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    trackers: tuple[Tracker, ...] = (),
) -> Summary:
    """Train an agent from its supervised start to the end of its budget, into the folder ``run``.

    ``env`` is an environment class or factory of your own and takes the place of ``config.env.name``. With ``resume``
    the run in the folder goes on from its newest checkpoint, exactly as if it had never been stopped.
    Raises ValueError for settings, RunFolderError for the folder, CheckpointError when the disk refuses.
    """
    progress = progress or Progress(quiet=True)
    path = Path(run)
    if resume:
        folder = RunFolder.open(path)
        with folder.lock():
            restored = restore(folder, env)
            with _logging(folder, trackers, progress) as log:
                return _go_on(restored, log, progress)
    config = config or RunConfig()
    target: str | Factory | None = env if env is not None else config.env.name
    make_env = None if target is None else make_factory(target, config.env.options)
    with RunFolder(path).lock():
        RunFolder.check_free(path)
        prepare(config)
        begun = begin(
            config, make_env, NO_TASK if target is None else task_name(target)
        )  # refuses before anything is written
        folder = RunFolder.create(path, config)
        with _logging(folder, trackers, progress) as log:
            return _go_on(start(config, folder, target, begun, log, progress), log, progress)


@contextmanager
def _logging(folder: RunFolder, trackers: tuple[Tracker, ...], progress: Progress) -> Iterator[MetricLog]:
    log = MetricLog(folder.path, trackers)
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
        if run.make_env is not None:
            progress.message("measuring the trained agent")
        return finish(run)


def examples(folder: RunFolder) -> tuple[Episode, Episode] | None:
    """The same evaluation game before and after training: the first that the trained agent won, else the first.

    None where nothing was played.
    """
    if not (folder.path / "final.parquet").exists():
        return None
    before = read_shard(folder.path / "start.parquet")
    after = read_shard(folder.path / "final.parquet")
    index = next((i for i, episode in enumerate(after) if episode.success), 0)
    return before[index], after[index]
