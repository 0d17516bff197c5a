"""Numbers of a run: intervals, one JSON line per iteration, TensorBoard events and optional trackers."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboardX import SummaryWriter

from archer.extras import need
from archer.storage.files import append_line
from archer.storage.metricsfile import read_metrics
from archer.types import End, Episode

Scalars = Mapping[str, float]


def mean_ci95(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval (normal approximation); infinite for fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), math.inf
    return float(array.mean()), float(1.96 * array.std(ddof=1) / math.sqrt(len(array)))


def episode_metrics(episodes: Sequence[Episode], stage: str) -> dict[str, float]:
    """Mean return with its interval, length, win rate where the task reports success, tokens said, and entropy where a
    policy sampled them; keys ``stage/...``.

    The interval is that of the seeds' mean returns, as games of one seed share what it decides: a second one says less
    than a game of another seed. It is infinite for games of a single seed.
    Games that were cut off by a failure of their environment say nothing about returns, lengths and wins; the share of
    those that ended because the conversation was full is told where there are any. Where another engine than the
    built-in one played, also how far it is from the learner.
    """
    played = sum(episode.tokens_said for episode in episodes)
    entropy = _surprise(episodes)
    cut = sum(map(_history_cuts, episodes))
    gap = np.concatenate([np.zeros(0), *(episode.engine_gap for episode in episodes)])
    episodes = [episode for episode in episodes if not episode.failed] or episodes
    by_seed: dict[int, list[float]] = {}
    for episode in episodes:
        by_seed.setdefault(episode.seed, []).append(episode.return_)
    _, half_width = mean_ci95([float(np.mean(own)) for own in by_seed.values()])
    metrics = {
        f"{stage}/return_mean": float(np.mean([episode.return_ for episode in episodes])),
        f"{stage}/return_ci95": half_width,
        f"{stage}/length": float(np.mean([len(episode) for episode in episodes])),
        f"{stage}/tokens": float(played),
    }
    if entropy is not None:
        metrics[f"{stage}/entropy"] = entropy
    if cut:
        metrics[f"{stage}/history_cuts"] = float(cut)
    too_long = float(np.mean([episode.end is End.TOKEN_LIMIT for episode in episodes]))
    if too_long:
        metrics[f"{stage}/token_limit"] = too_long
    if len(gap):
        metrics |= {f"{stage}/engine_gap_mean": float(gap.mean()), f"{stage}/engine_gap_max": float(gap.max())}
    outcomes = [episode.success for episode in episodes if episode.success is not None]
    if outcomes:
        metrics[f"{stage}/win_rate"] = float(np.mean(outcomes))
    return metrics


def at_limit(episodes: Sequence[Episode], limit: int) -> float:
    """Share of utterances that are as long as they may be: most of them were cut, and say what nobody meant."""
    return float(np.mean([len(turn.utterance.ids) >= limit for episode in episodes for turn in episode.turns]))


def _surprise(episodes: Sequence[Episode]) -> float | None:
    """Mean −log π of the tokens that were said, in nats: the policy's entropy where it spoke at temperature
    1 and nobody chose among its words. None where no policy sampled them."""
    logprobs = np.concatenate([episode.logprobs for episode in episodes])
    sampled = logprobs[np.isfinite(logprobs)]
    return -float(sampled.mean(dtype=np.float64)) if len(sampled) else None


def _history_cuts(episode: Episode) -> int:
    """How often what the agent read did not grow: the oldest turns were cut, or it was told everything anew."""
    read = [len(turn.prompt_ids) for turn in episode.turns] + [len(episode.final_prompt_ids)]
    return sum(after <= before for before, after in pairwise(read))


class Tracker(Protocol):
    """A dashboard outside the run folder."""

    def log(self, step: int, metrics: Scalars) -> None: ...

    def close(self) -> None: ...


class _ModuleTracker:
    """wandb and trackio share one interface. What they have to say goes to standard error: output is for results."""

    def __init__(self, name: str, run: str, config: Mapping[str, Any]) -> None:
        self._module = need(name, name)
        with redirect_stdout(sys.stderr):
            self._module.init(project="archer", name=run, config=dict(config))

    def log(self, step: int, metrics: Scalars) -> None:
        with redirect_stdout(sys.stderr):
            self._module.log({**metrics, "iteration": step})

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._module.finish()


def make_tracker(name: str, run: str, config: Mapping[str, Any]) -> Tracker:
    """The tracker called ``name``."""
    return _ModuleTracker(name, run, config)


class MetricLog:
    """Appends to ``metrics.jsonl`` and mirrors it to TensorBoard and trackers."""

    def __init__(self, folder: Path, trackers: Sequence[Tracker] = ()) -> None:
        self._path = folder / "metrics.jsonl"
        rows = read_metrics(self._path)
        # What a resumed run plays again must not stand twice in the curves.
        again = {"purge_step": rows[-1]["iteration"] + 1} if rows else {}
        self._events = SummaryWriter(str(folder / "tensorboard"), **again)
        self._trackers = trackers

    def log(self, iteration: int, metrics: Scalars) -> None:
        """Write one line; numbers that are not finite become null, as JSON has no word for them, and are named."""
        row: dict[str, Any] = {"iteration": iteration}
        row |= {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        lost = [key for key in metrics if row[key] is None]
        if lost:
            row["not_finite"] = lost
        append_line(self._path, row)
        for key, value in metrics.items():
            self._events.add_scalar(key, value, iteration)
        for tracker in self._trackers:
            tracker.log(iteration, metrics)

    def close(self) -> None:
        self._events.close()
        for tracker in self._trackers:
            tracker.close()


class NoLog(MetricLog):
    """Writes nothing: that of a process beside the one that does."""

    def __init__(self) -> None:
        pass

    def log(self, iteration: int, metrics: Scalars) -> None:
        pass

    def close(self) -> None:
        pass
