"""Training: ArCHer's Algorithm 1 as a page of plain calls, and the run around it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from archer.algorithms.actor import update_actor
from archer.algorithms.critic import start_critic, update_critic
from archer.algorithms.supervised import clone
from archer.config import RunConfig
from archer.critic_health import critic_health
from archer.envs import Factory, make_factory, task_name
from archer.evaluation import evaluate_actor, reference_return, training_seed
from archer.files import write_json
from archer.metrics import MetricLog, Tracker, episode_metrics
from archer.progress import Progress
from archer.report.curve import plot_curve
from archer.rollout.demonstrations import count_steps
from archer.rollout.play import play
from archer.run import (
    Run,
    assemble,
    attach_anchor,
    begin_actor,
    demonstrations_as_episodes,
    keep_demonstrations,
    play_demonstrations,
    prepare,
    restore,
    save,
)
from archer.runfolder import RunFolder
from archer.storage import read_shard, shard_path, write_shard
from archer.types import Episode

# Purposes of the random streams. Every draw derives from (run seed, iteration, purpose): no generator needs to be
# saved, and a resumed run draws what the uninterrupted one would have.
CRITIC, ACTOR, SUPERVISED, CRITIC_START = 1, 2, 3, 4


def learn(run: Run, log: MetricLog, progress: Progress) -> None:
    """Play, keep, update the critic, update the actor, measure, save; until all iterations are done."""
    config = run.config
    while run.iteration < config.iterations:
        began = time.perf_counter()
        number = run.iteration + 1
        episodes = collect(run)
        played = time.perf_counter() - began
        run.replay.add(episodes)
        metrics = episode_metrics(episodes, "rollout")
        metrics |= critic_health(run.agent.critic, episodes, config.critic.discount)  # before it learns from them
        metrics |= update_critic(
            run.agent, run.replay, config.critic,
            sampler=run.sampler, seed=[config.seed, number, CRITIC], demonstrations=run.demonstrations,
        )  # fmt: skip
        if number > config.warmup:
            metrics |= update_actor(
                run.agent, run.anchor, run.replay, config.actor,
                sampler=run.sampler, seed=[config.seed, number, ACTOR],
            )  # fmt: skip
        run.iteration = number
        if config.eval.every and number % config.eval.every == 0:
            metrics |= episode_metrics(measure(run, config.eval.games), "eval")
        metrics |= {"games": float(run.games), "warmup": float(number <= config.warmup)}
        metrics |= {
            "time/iteration_s": time.perf_counter() - began,
            "time/games_per_s": len(episodes) / played,
            "time/tokens_per_s": metrics["rollout/tokens"] / played,
        }
        write_shard(shard_path(run.folder.episodes, number), episodes, number)
        log.log(number, metrics)
        save(run)
        progress.advance(metrics)


def collect(run: Run) -> list[Episode]:
    """One iteration's games."""
    seeds = [training_seed(run.config.seed, run.games + game) for game in range(run.config.rollout.games)]
    return play(
        run.agent.actor, run.make_env, seeds,
        task=run.task, sampling=run.sampling, limits=run.limits, layout=run.layout,
        policy_version=run.agent.policy_version,
    )  # fmt: skip


def measure(run: Run, games: int) -> list[Episode]:
    """Evaluation games of the policy as it is."""
    return evaluate_actor(
        run.agent.actor, run.make_env, games,
        task=run.task, sampling=run.sampling, limits=run.limits, layout=run.layout,
        policy_version=run.agent.policy_version,
    )  # fmt: skip


def start(config: RunConfig, folder: RunFolder, target: str | Factory, progress: Progress) -> Run:
    """A new run up to its first checkpoint: supervised start, fresh critic, and how well the start plays."""
    prepare(config)
    make_env = make_factory(target, config.env.options)
    games = play_demonstrations(config, make_env())
    actor = begin_actor(config, games)
    demonstrations = demonstrations_as_episodes(config, games, actor, task_name(target))
    if demonstrations:
        progress.stage("supervised start", count_steps(demonstrations, config.supervised))
        clone(actor, demonstrations, config.supervised, seed=[config.seed, 0, SUPERVISED], report=progress.advance)
        write_shard(folder.demonstrations_file, demonstrations, 0)
    run = assemble(config, folder, target, actor, demonstrations)
    if demonstrations and config.critic_start.epochs:
        progress.stage("critic start", count_steps(demonstrations, config.critic_start))
        start_critic(
            run.agent, demonstrations, config.critic_start, config.critic,
            seed=[config.seed, 0, CRITIC_START], report=progress.advance,
        )  # fmt: skip
    if config.critic.demonstrations:
        keep_demonstrations(run, demonstrations)
    save(run)
    attach_anchor(run)
    return run


@dataclass(frozen=True)
class Summary:
    """What a finished run reports; returns are means over evaluation games with half-widths of 95 % intervals."""

    run: str
    task: str
    start_return: float
    start_ci95: float
    return_mean: float
    return_ci95: float
    reference_return: float | None
    gap_closed: float | None
    """Share of the way from the supervised start to the reference, None where there is no reference."""
    games: int
    """Games played for training, warm-up included."""
    demonstrations: int
    curve: str


def measure_start(run: Run, log: MetricLog, progress: Progress) -> None:
    """Evaluate the supervised start once; line 0 of the metrics and ``start.parquet`` hold the outcome."""
    if run.folder.metrics():
        return
    progress.message("measuring the supervised start")
    episodes = measure(run, run.config.eval.final_games)
    write_shard(run.folder.path / "start.parquet", episodes, 0)
    log.log(0, {**episode_metrics(episodes, "eval"), "games": 0.0, "warmup": 1.0})


def finish(run: Run) -> Summary:
    """Evaluate the trained actor, write ``summary.json``, ``final.parquet`` and ``curve.png``."""
    episodes = measure(run, run.config.eval.final_games)
    write_shard(run.folder.path / "final.parquet", episodes, run.iteration)
    after = episode_metrics(episodes, "eval")
    rows = run.folder.metrics()
    before = rows[0]
    best = reference_return(run.make_env)
    gap = None if best is None else best - before["eval/return_mean"]
    summary = Summary(
        run=str(run.folder.path),
        task=run.task,
        start_return=before["eval/return_mean"],
        start_ci95=before["eval/return_ci95"],
        return_mean=after["eval/return_mean"],
        return_ci95=after["eval/return_ci95"],
        reference_return=best,
        gap_closed=(after["eval/return_mean"] - before["eval/return_mean"]) / gap if gap else None,
        games=run.games,
        demonstrations=run.config.supervised.games,
        curve=str(run.folder.curve_file),
    )
    plot_curve(
        [*rows, {**after, "iteration": run.iteration, "games": run.games, "warmup": 0.0}],
        run.folder.curve_file,
        start_return=summary.start_return,
        reference_return=best,
        title=f"{run.task}, {run.config.preset}, seed {run.config.seed}",
    )
    write_json(run.folder.summary_file, summary.__dict__)
    return summary


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
            return _continue(restore(folder, env), progress, trackers)
    config = config or RunConfig()
    target: str | Factory = env if env is not None else config.env.name
    make_factory(target, config.env.options)  # refuse a wrong environment before a folder exists
    with RunFolder(path).lock():
        folder = RunFolder.create(path, config)
        return _continue(start(config, folder, target, progress), progress, trackers)


def _continue(run: Run, progress: Progress, trackers: tuple[Tracker, ...]) -> Summary:
    log = MetricLog(run.folder.path, trackers)
    try:
        measure_start(run, log, progress)
        progress.stage("training", run.config.iterations, done=run.iteration)
        learn(run, log, progress)
        progress.message("measuring the trained agent")
        return finish(run)
    finally:
        log.close()
        progress.close()


def examples(folder: RunFolder) -> tuple[Episode, Episode]:
    """The same evaluation game before and after training: the first that the trained agent won, else the first."""
    before = read_shard(folder.path / "start.parquet")
    after = read_shard(folder.path / "final.parquet")
    index = next((i for i, episode in enumerate(after) if episode.success), 0)
    return before[index], after[index]
