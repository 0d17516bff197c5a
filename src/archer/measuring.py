"""Measure a run's agent, and what a finished run comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archer import devices
from archer.evaluation import evaluate_actor
from archer.metrics import episode_metrics, mean_ci95
from archer.progress import Progress
from archer.report.curve import plot_curve
from archer.run import Run
from archer.storage.files import write_json
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard, write_shard
from archer.types import Episode


def measure(run: Run, games: int, report: Callable[[int], None] = lambda games: None) -> list[Episode]:
    """Evaluation games of the policy as it is; ``report`` hears how many more are over."""
    assert run.environments is not None, "only where there is an environment"
    return evaluate_actor(
        run.agent.policy, run.environments, games,
        task=run.task, sampling=run.sampling, limits=run.limits, layout=run.layout,
        policy_version=run.agent.policy_version, player=run.player(run.config.eval.best_of),
        report=report,
    )  # fmt: skip


def demonstrations_metrics(demonstrations: Sequence[Episode]) -> dict[str, float]:
    """What the demonstrations returned, with its 95 % interval; nothing where there are none or nobody knows."""
    returns = [episode.return_ for episode in demonstrations]
    if not returns or not np.isfinite(returns).all():
        return {}
    mean, half_width = mean_ci95(returns)
    return {"demonstrations/return_mean": mean, "demonstrations/return_ci95": half_width}


def short_of_demonstrations(found: Mapping[str, float], epochs: int) -> str:
    """What to tell the user of a clone that returns less than what it was cloned from in ``epochs`` passes; nothing
    where that may be chance. ``found`` are the metrics of iteration 0."""
    if "demonstrations/return_mean" not in found:
        return ""
    clone, shown = found["eval/return_mean"], found["demonstrations/return_mean"]
    if shown - clone <= math.hypot(found["eval/return_ci95"], found["demonstrations/return_ci95"]):
        return ""
    return (
        f"The agent returns {clone:.2f} ± {found['eval/return_ci95']:.2f}, the demonstrations that it was cloned from "
        f"{shown:.2f}: it cannot do yet what it was shown. More passes over them may help (supervised.epochs={epochs})"
    )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished run reports; returns are means over evaluation games with half-widths of 95 % intervals.

    Without an environment nothing is measured: returns and curve are None.
    """

    run: str
    task: str
    start_return: float | None = None
    start_ci95: float | None = None
    return_mean: float | None = None
    return_ci95: float | None = None
    best_of: int
    """Utterances among which the critic chose in these evaluations (``eval.best_of``); 0: the policy alone."""
    reference_return: float | None = None
    gap_closed: float | None = None
    """Share of the way from the start to the reference, None where there is no reference."""
    games: int
    """Games played for training, warm-up and the runs that this one goes on from included."""
    demonstrations: int
    demonstrations_return: float | None = None
    """Mean return of the demonstrations, None where nobody knows it."""
    skipped: int
    """Malformed conversations that were left out of the demonstrations."""
    curve: str | None = None


def finish(run: Run, progress: Progress) -> Summary:
    """Write ``summary.json``; with an environment, evaluate the trained actor and draw the curve."""
    episodes = None
    if run.make_env is not None:
        progress.stage("measuring the trained agent", run.config.eval.final_games, unit="games")
        episodes = measure(run, run.config.eval.final_games, progress.count)
    return devices.told_by_first(lambda: _summarise(run, episodes))


def _summarise(run: Run, episodes: Sequence[Episode] | None) -> Summary:
    outcome = {} if episodes is None else _outcome(run, episodes)
    summary = Summary(
        run=str(run.folder.path),
        task=run.task,
        best_of=run.config.eval.best_of,
        games=run.games,
        demonstrations=run.demonstrated,
        skipped=run.skipped,
        **outcome,
    )
    write_json(run.folder.summary_file, summary.__dict__)
    return summary


def _outcome(run: Run, episodes: Sequence[Episode]) -> dict[str, Any]:
    """What the evaluations at both ends come to, and the curve between them."""
    write_shard(run.folder.path / "final.parquet", episodes, run.iteration)
    after = episode_metrics(episodes, "eval")
    rows = run.folder.metrics()
    before = rows[0]
    best = run.reference_return
    gap = None if best is None else best - before["eval/return_mean"]
    plot_curve(
        [*rows, {**after, "iteration": run.iteration, "games": run.games, "warmup": 0.0}],
        run.folder.curve_file,
        start_return=before["eval/return_mean"],
        reference_return=best,
        title=f"{run.task}, {run.config.preset}, seed {run.config.seed}; evaluations: {run.config.eval.played_by}",
    )
    return {
        "start_return": before["eval/return_mean"],
        "start_ci95": before["eval/return_ci95"],
        "return_mean": after["eval/return_mean"],
        "return_ci95": after["eval/return_ci95"],
        "reference_return": best,
        "gap_closed": (after["eval/return_mean"] - before["eval/return_mean"]) / gap if gap else None,
        "demonstrations_return": before.get("demonstrations/return_mean"),
        "curve": str(run.folder.curve_file),
    }


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
