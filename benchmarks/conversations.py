"""The same task before, midway through and after training, with what the critic at the end makes of every utterance.

    python benchmarks/conversations.py runs/benchmark/twenty-questions-10/archer/seed-0 --out conversations.md

Nothing is picked by how it went: the first evaluation game, the same one again after each stage; midway, where nothing
is played twice, the first training game with the same hidden object (chosen by the critic among samples, as it plays to
learn).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro

from archer.api import load, load_critic
from archer.operations.scoring import Score, score_episodes
from archer.report.console import printable
from archer.storage.files import write_text
from archer.storage.shards import read_shard, shard_path
from archer.types import Episode

HEAD = """# Conversations

Written by `benchmarks/conversations.py`, which says how they were chosen. Q and V are of the critic at the end, the
lesser of its two heads; A = Q − V.
"""


def main(runs: tyro.conf.Positional[tuple[Path, ...]], /, out: Path) -> None:
    """Write the conversations of some runs as a page.

    Args:
        runs: Folders of finished runs.
        out: The page.
    """
    write_text(out, "\n".join([HEAD, *(conversations(run) for run in runs)]))


def conversations(folder: Path) -> str:
    """One run's conversations as Markdown."""
    run = load(folder)
    critic = load_critic(run)
    games = stages(folder, run.iteration)
    scores = score_episodes(run, critic, list(games.values()))
    target = next(iter(games.values())).turns[-1].info.get("target")
    title = f"## {run.config.env.name}, seed {run.config.seed}" + (f": {target}" if target else "")
    return "\n".join([title, "", *(table(*found) for found in zip(games, games.values(), scores, strict=True))])


def stages(folder: Path, iterations: int) -> dict[str, Episode]:
    """What was played of one task at each stage, by a name of the stage."""
    found = {
        name: read_shard(folder / f"{shard}.parquet")[0]
        for name, shard in (("Supervised start", "start"), ("Before the first game", "offline"))
        if (folder / f"{shard}.parquet").exists()
    }
    first = next(iter(found.values()))
    middle = iterations // 2
    alike = [
        episode
        for episode in read_shard(shard_path(folder / "episodes", middle))
        if episode.turns[-1].info.get("target") == first.turns[-1].info.get("target")
    ]
    if alike:
        found[f"Training game of iteration {middle}"] = alike[0]
    return found | {f"After {iterations} iterations": read_shard(folder / "final.parquet")[0]}


def table(stage: str, game: Episode, scores: Sequence[Score]) -> str:
    """One game, a row per turn."""
    rows = [f"**{stage}**: return {game.return_:g}", "", "| heard | said | Q | V | A |", "|---|---|---|---|---|"]
    for turn, score in zip(game.turns, scores, strict=True):
        heard, said = _cell(str(turn.observation)), _cell(str(turn.utterance.text))
        rows.append(f"| {heard} | {said} | {score.q:.1f} | {score.v:.1f} | {score.advantage:+.1f} |")
    return "\n".join([*rows, ""])


def _cell(text: str) -> str:
    """A text on one line of a table."""
    return printable(text).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    tyro.cli(main)
