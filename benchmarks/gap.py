"""What is lost in Twenty Questions against the player that asks for the most information, utterance by utterance.

    python benchmarks/gap.py runs/benchmark/twenty-questions-10/archer/seed-*

That player's return is known for every set of objects that are still possible, so every utterance has a price: what it
and that player's game after it are short of that player's game before it, on average over the objects possible. By the
performance difference lemma (Kakade and Langford 2002, lemma 6.1) the prices of a game add up to what its return is
short of that player's, but for chance and for what the limit of turns forgives. Ten objects: the player is the best
possible. 157: a strong one, so that a price may be below zero.

Writes the table of docs/results.md anew, a column for each stage of the runs, their games taken together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from results import PAGE, replace_block, table

from archer.envs import make_factory
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.twenty_questions.grammar import Guesses, Meaning, understand
from archer.envs.twenty_questions.solver import best_question, mask_of, members_of
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard
from archer.types import Episode

STAGES = {"start": "supervised start", "offline": "before the first game", "final": "end"}
"""What a run's folder has of held-out games, by the name of the file."""
AGAIN = "what was said before, in whatever words"
NO_ANSWER = "what has no answer"
RULED_OUT = "guesses of what is ruled out"
KNOWN = "questions whose answer is known"
GUESS = "guesses of what is possible"
TELLS = "questions that tell something"
KINDS = (AGAIN, NO_ANSWER, RULED_OUT, KNOWN, GUESS, TELLS)


@dataclass(frozen=True)
class Priced:
    """One utterance: its kind, and what it costs."""

    kind: str
    price: float


def main(runs: tyro.conf.Positional[tuple[Path, ...]], /) -> None:
    """Price what finished runs of one task played.

    Args:
        runs: Folders of finished runs, all of one of the two tasks with the exact table of facts.
    """
    task = _task(runs)
    env = make_factory(task, {})()
    assert isinstance(env, TwentyQuestions)
    best = env.reference_return()
    columns = {title: column(_games(runs, name), env.objects, best) for name, title in STAGES.items()}
    rows = [["lost a game to", *(f"{title} (utterances a game)" for title in columns)], ["---"] * (1 + len(columns))]
    rows += [[name, *(found[name] for found in columns.values())] for name in next(iter(columns.values()))]
    replace_block(PAGE, f"{task} gap", table(rows))


def column(games: Sequence[Episode], objects: Sequence[str], best: float) -> dict[str, str]:
    """What a stage's games lose, by kind of utterance, and what their mean return is short of the best."""
    priced = [
        prices([str(turn.utterance.text) for turn in game.turns], str(game.turns[-1].info["target"]), objects)
        for game in games
    ]
    count = Counter(one.kind for game in priced for one in game)
    lost = {kind: sum(one.price for game in priced for one in game if one.kind == kind) / len(games) for kind in KINDS}
    short = best - sum(game.return_ for game in games) / len(games)
    cells = {kind: f"{lost[kind]:.2f} ({count[kind] / len(games):.2f})" for kind in KINDS}
    return cells | {
        "what the limit of turns forgives, and chance": f"{short - sum(lost.values()):.2f}",
        "**all of it**": f"**{short:.2f}**",
    }


def prices(utterances: Sequence[str], target: str, objects: Sequence[str]) -> list[Priced]:
    """The price of each utterance of a game whose hidden object is ``target``, one of ``objects``."""
    possible, hidden = mask_of(tuple(objects)), mask_of((target,))
    said: set[Meaning] = set()
    found = []
    for utterance in utterances:
        meaning = understand(utterance)
        members = members_of(meaning) or 0  # what has no answer tells nothing
        parts = [part for part in (possible & members, possible & ~members) if part]
        wins = (possible & members).bit_count() if isinstance(meaning, Guesses) else 0
        if meaning is None:
            kind = NO_ANSWER
        elif meaning in said:
            kind = AGAIN
        elif isinstance(meaning, Guesses):
            kind = GUESS if wins else RULED_OUT
        else:
            kind = TELLS if len(parts) > 1 else KNOWN
        said.add(meaning)
        everything = possible.bit_count()
        after = sum(best_question(part)[0] for part in parts)
        found.append(Priced(kind, (everything - wins + after - best_question(possible)[0]) / everything))
        (possible,) = (part for part in parts if part & hidden)
    return found


def _task(runs: Sequence[Path]) -> str:
    """The task of the runs; ends the program where it is another or not one."""
    names = {str(RunFolder.open(run).config().env.name) for run in runs}
    if len(names) != 1 or not names <= {"twenty-questions", "twenty-questions-10"}:
        raise SystemExit(f"the runs must be of one of the two Twenty Questions, these are of: {', '.join(names)}")
    return names.pop()


def _games(runs: Sequence[Path], name: str) -> list[Episode]:
    return [game for run in runs for game in read_shard(run / f"{name}.parquet")]


if __name__ == "__main__":
    tyro.cli(main)
