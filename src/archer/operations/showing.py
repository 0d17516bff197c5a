"""A run at a glance: where it stands, how it came there, and what its agent says now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archer.api import load, load_critic
from archer.operations.scoring import score_episodes
from archer.report.notebook import Ratings, curves_html, episode_html, facts_html
from archer.storage.checkpoint import CheckpointError
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard
from archer.types import Episode

CURVES = {
    "eval/return_mean": "return, evaluations",
    "rollout/return_mean": "return, games to learn from",
    "rollout/win_rate": "won",
    "rollout/length": "turns of a game",
    "rollout/entropy": "entropy of the policy, per token",
    "critic/q_loss": "loss of Q",
    "critic/return_correlation": "critic: correlation with returns",
    "critic/sign_share": "critic: advantages of the right sign",
    "actor/logprob": "log-probability of what is learned",
    "actor/kl": "KL to the start",
    "time/tokens_per_s": "tokens per second, playing",
}
"""Metrics that are shown, where a run has them."""


@dataclass(frozen=True)
class Overview:
    """Where a run stands."""

    facts: Mapping[str, Any]
    """Named values."""
    curves: Mapping[str, Sequence[float | None]]
    """By the names of ``CURVES``."""
    games: Sequence[tuple[Episode, Ratings]]
    """Some of its newest games, the best first; without a critic, Q and V are missing and the list of ratings empty."""

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        games = [episode_html(episode, ratings) for episode, ratings in self.games]
        return "<br>".join([facts_html(self.facts), curves_html(self.curves), *games])


def overview(run: str | Path, games: int = 2) -> Overview:
    """Read a run, finished or not, with ``games`` of its newest games; RunFolderError for what is no run."""
    path = Path(run)
    folder = RunFolder.open(path)
    config = folder.config()
    rows = folder.metrics()
    measured = [row for row in rows if row.get("eval/return_mean") is not None]
    facts: dict[str, Any] = {
        "run": str(path),
        "task": config.env.name,
        "preset": config.preset,
        "seed": config.seed,
        "iterations": f"{rows[-1]['iteration'] if rows else 0} of {config.iterations}",
        "games played": int(rows[-1]["games"]) if rows else 0,
    }
    if measured:
        facts["return before"] = measured[0]["eval/return_mean"]
        facts["return now"] = measured[-1]["eval/return_mean"]
        facts["returns of"] = config.eval.played_by
    final: list[float | None] = []  # the last evaluation is no line of the metrics
    if folder.summary_file.exists():
        summary = folder.summary()
        final = [summary.get("return_mean")]
        names = {"return_mean": "return now", "reference_return": "best known return", "gap_closed": "gap closed"}
        facts |= {told: summary[name] for name, told in names.items() if summary.get(name) is not None}
    played = [row for row in rows if row["iteration"]]
    curves = {
        told: [row.get(name) for row in (rows if name.startswith("eval") else played)] for name, told in CURVES.items()
    }
    curves[CURVES["eval/return_mean"]] += final
    return Overview(
        facts,
        {told: values for told, values in curves.items() if any(value is not None for value in values)},
        rated(path, newest_games(folder), games),
    )


def newest_games(folder: RunFolder) -> list[Episode]:
    """The final evaluation, else the newest iteration, else the start; empty where nothing was played yet."""
    shards = sorted(folder.episodes.glob("*.parquet"))
    for shard in (folder.path / "final.parquet", *reversed(shards), folder.path / "start.parquet"):
        if shard.exists():
            return read_shard(shard)
    return []


def rated(path: Path, episodes: Sequence[Episode], count: int) -> list[tuple[Episode, Ratings]]:
    """``count`` of the episodes from the best to the worst, with what the critic thinks where there is one."""
    if not episodes or count < 1:
        return []
    ordered = sorted(episodes, key=lambda episode: episode.return_, reverse=True)
    places = [round(number * (len(ordered) - 1) / max(1, count - 1)) for number in range(min(count, len(ordered)))]
    chosen = [ordered[place] for place in places]
    try:
        run = load(path)
        scores = score_episodes(run, load_critic(run), chosen)
    except (ValueError, CheckpointError):  # no critic, or no checkpoint yet
        return [(episode, ()) for episode in chosen]
    return [
        (game, [(one.utterance, one.q, one.v) for one in rated]) for game, rated in zip(chosen, scores, strict=True)
    ]
