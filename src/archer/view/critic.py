"""The page of a run's critic: how its values compare with what came, on games that the run has kept."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from archer.health.numbers import Numbers, ValuedTurns
from archer.operations.doctoring import examine_episodes
from archer.report.health import HEADLINES, health_numbers
from archer.report.reliability import reliability_bins
from archer.types import Episode, observation_text
from archer.view.data import MOST, Query, RunView, number
from archer.view.judging import Judge, Places

BARS = 24
"""Of the histogram of advantages, about."""
SHOWN = 8
"""Best and worst utterances."""
LONGEST = 300
"""Characters of what was heard before them."""


def critic_page(view: RunView, source: str = "") -> dict[str, Any]:
    """Verdict, numbers and pictures of the newest checkpoint's critic, found once for each checkpoint.

    source: games to judge by; those of the end where there are some, else the newest that were evaluated or played.
    """
    sources = view.sources()
    chosen = source or next((name for name in ("final", "eval", "train", "offline", "start") if name in sources), "")
    judge = view.judge()
    if judge is None:
        return {"missing": "This run has no checkpoint yet, and so no critic to ask."}
    if judge.critic is None:
        return {"missing": "This run's method learns without a critic."}
    if chosen not in sources:
        return {"missing": "There are no games to judge by yet."}
    found = view.episodes(Query(source=chosen, limit=MOST))
    places = [(row["iteration"], row["row"]) for row in found["rows"]]
    with judge.lock:
        known = judge.pages.get(chosen)
        if known is None or known[0] != places:  # while the run trains, newer games come
            known = judge.pages[chosen] = places, _examine(view, judge, chosen, places, found["count"])
        return known[1]


def _examine(view: RunView, judge: Judge, source: str, places: Places, kept: int) -> dict[str, Any]:
    assert judge.critic is not None
    episodes: list[Episode] = []
    for iteration, rows in groupby(places, key=lambda place: place[0]):
        taken = [row for _, row in rows]  # of each shard the first ones, in their order
        episodes += view.read(source, iteration, taken[0], len(taken))
    examined = examine_episodes(judge.run, judge.critic, episodes)
    turns = examined.turns
    page: dict[str, Any] = {
        "source": source,
        "sources": view.sources(),
        "judged_by": judge.name,
        "judged_on": _judged_on(source, places, kept, judge.run.iteration),
        "verdict": str(examined.diagnosis.verdict),
        "headline": HEADLINES[examined.diagnosis.verdict][0],
        "reasons": list(examined.diagnosis.reasons),
        "games": examined.health.games,
        "turns": examined.health.turns,
        "numbers": [
            {"name": name, "value": value, "healthy": healthy}
            for name, value, healthy in health_numbers(examined.health)
        ],
        "td": [vars(error) for error in examined.health.td_errors],
    }
    return page | (pictures(turns.only(turns.finite)) | _extremes(source, episodes, places, turns))


def _judged_on(source: str, places: Places, kept: int, iteration: int) -> str:
    """Which games these are, and whether the critic knew them."""
    games = f"{len(places)} of the {kept:,} games" if kept > len(places) else f"the {kept:,} games"
    if source == "final":
        return f"{games} of the evaluation at the end, which were never trained on"
    span = sorted({number for number, _ in places})
    if source == "eval":
        newest = f"{len(places)} games of the evaluations in between, the newest after iteration {span[-1]}"
        return f"{newest}: never trained on, but played by the policy of that time"
    if source == "train":
        known = "has learned from" if span[-1] <= iteration else "has learned from, or is about to"
        which = f"iteration {span[0]}" if len(span) == 1 else f"iterations {span[0]} to {span[-1]}"
        newest = f"the {len(places)} newest games of training ({which})"
        return f"{newest}, which the critic {known}: it may look better here than it is"
    when = {"start": "before any training", "offline": "after what demonstrations taught"}[source]
    return f"{games} of the evaluation {when}, never trained on, but played by an earlier policy than the newest"


def pictures(turns: ValuedTurns) -> dict[str, Any]:
    """Calibration in ten bins of Q, and the histogram of advantages; of turns whose values are finite."""
    if not len(turns.v):
        return {"calibration": [], "histogram": {"edges": [], "counts": []}}
    bins = zip(*reliability_bins(turns), strict=True)
    advantages = _advantages(turns)
    width = float(np.ptp(advantages)) / BARS or 1.0
    low, high = np.floor(advantages.min() / width), np.ceil(advantages.max() / width)
    bars = np.arange(low, max(high, low + 1) + 1)
    counts, edges = np.histogram(advantages, bins=bars * width)  # zero is an edge: no bar is good and bad at once
    return {
        "calibration": [
            {"q": number(float(q)), "return": number(float(came)), "half_width": number(float(width))}
            for q, came, width in bins
        ],
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _extremes(source: str, episodes: list[Episode], places: Places, turns: ValuedTurns) -> dict[str, Any]:
    """The utterances with the greatest and least advantages, each thing said at a state once."""
    said = [(game, turn) for game, episode in enumerate(episodes) for turn in range(len(episode))]
    advantages = _advantages(turns)
    seen: set[tuple[bytes, bytes]] = set()
    different: list[int] = []
    for index in np.flatnonzero(turns.finite).tolist():
        turn = episodes[said[index][0]].turns[said[index][1]]
        what = (turn.prompt_ids.tobytes(), turn.utterance.ids.tobytes())
        if what not in seen:
            seen.add(what)
            different.append(index)
    different.sort(key=lambda index: -float(advantages[index]))

    def tell(index: int) -> dict[str, Any]:
        game, turn = said[index]
        played, (iteration, row) = episodes[game].turns[turn], places[game]
        return {
            "source": source, "iteration": iteration, "row": row, "turn": turn + 1,
            "observation": observation_text(played.observation)[:LONGEST], "utterance": played.utterance.text,
            "q": float(turns.q[index].min()), "v": float(turns.v[index]),
        }  # fmt: skip

    return {
        "best": [tell(index) for index in different[:SHOWN] if advantages[index] > 0],
        "worst": [tell(index) for index in different[::-1][:SHOWN] if advantages[index] < 0],
    }


def _advantages(turns: ValuedTurns) -> Numbers:
    """Q - V of every turn, [N]."""
    advantages: Numbers = turns.q.min(axis=1) - turns.v
    return advantages
