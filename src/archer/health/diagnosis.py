"""The verdict on a critic: what its health numbers mean in plain words, and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archer.health.numbers import Health

# The thresholds were set by looking at critics of Twenty Questions, with 10 and with 157 objects: untrained ones, those
# of the first iterations and those that had taught an actor well. They are meant to part these and no more.
FEWEST_GAMES = 20
"""Below it an interval over games means nothing."""
LEAST_Q_SPREAD = 0.05
"""Std of Q over std of the returns: 0.2 to 0.7 in trained critics, 0.02 and less in untrained ones."""
LEAST_ADVANTAGE_SPREAD = 0.01
"""Std of A over std of the returns: 0.1 to 0.2 in trained critics; the actor's gradient is in proportion to it."""
LOST = 2.0
"""Times the spread that is left which a critic must have had in training for that to be a loss and not a wobble."""
LEAST_CORRELATION = 0.1
"""Of Q with the returns."""
MOST_BIAS = 1.0
"""Bias over std of the returns: a critic that knew nothing but the mean return would have 0."""
MOST_TWIN_GAP = 0.5
"""Twin gap over std of the returns: the lesser head then says more about the heads than about the utterance."""
LEAST_EXPLAINED = -1.0
"""Explained variance: below it Q's errors vary more than twice as much as the returns do."""
SHARP = 0.04
"""Half-width of the sign share's interval up to which "it may be coin flipping" is held against the critic and not
against too few games: critics that taught an actor well had shares of 0.55 to 0.6."""

MORE = "Give the critic more to learn from before the actor follows it: more warm-up, critic.updates or games."


class Verdict(enum.StrEnum):
    """How a critic is, in a word."""

    COLLAPSED = "collapsed"
    NOT_READY = "critic not ready"
    UNDECIDED = "cannot tell"
    HEALTHY = "healthy"


@dataclass(frozen=True)
class Diagnosis:
    """The verdict, and a plain sentence for everything that speaks for it, the worst first."""

    verdict: Verdict
    reasons: tuple[str, ...]


def diagnose(health: Health, logged: Sequence[Mapping[str, Any]] = ()) -> Diagnosis:
    """The verdict on a critic, by the thresholds of this module.

    ``logged`` are the metrics of the run's iterations: a critic that tells nothing apart has collapsed only where it
    once did; else it has not begun to.
    """
    unjudgeable = tuple(_nothing_to_judge_by(health))
    if unjudgeable and not health.nonfinite:
        return Diagnosis(Verdict.UNDECIDED, unjudgeable)
    same = tuple(_sameness(health, logged))
    collapse = (*_divergence(health), *(reason for lost, reason in same if lost))
    immaturity = (*(reason for lost, reason in same if not lost), *_immaturity(health))
    doubt = tuple(_doubt(health))
    if collapse:
        return Diagnosis(Verdict.COLLAPSED, collapse + immaturity)
    if immaturity:
        return Diagnosis(Verdict.NOT_READY, immaturity + doubt)
    if doubt:
        return Diagnosis(Verdict.UNDECIDED, doubt)
    text = "Q goes with the returns, and its advantages point the right way, more so than chance would have it."
    return Diagnosis(Verdict.HEALTHY, (text,))


def _nothing_to_judge_by(health: Health) -> Iterator[str]:
    if health.games < FEWEST_GAMES:
        yield f"{health.games} games are too few to judge by: take at least {FEWEST_GAMES}."
    if not health.return_std:
        yield "All turns had the same return: there is nothing that a critic could tell apart."


def _divergence(health: Health) -> Iterator[str]:
    if health.nonfinite:
        yield (
            f"{health.nonfinite} of {health.turns} turns have values that are no finite numbers: training has "
            "diverged. Train anew with a lower critic.lr and critic.matrix_lr."
        )


def _sameness(health: Health, logged: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bool, str]]:
    """A sentence for each thing that the critic does not tell apart, and whether it once did."""
    if not health.return_std or health.q_std is None or health.advantage_std is None:
        return
    of_returns = f"that of the returns {health.return_std:.3g}"
    if health.q_std < LEAST_Q_SPREAD * health.return_std:
        alike = f"Q is nearly the same everywhere: its spread is {health.q_std:.3g}, {of_returns}."
        had = _once("q_std", health.q_std / health.return_std, LEAST_Q_SPREAD, logged)
        if had is None:
            yield False, f"{alike} The critic has not begun to learn. {MORE}"
        else:
            yield True, f"{alike} {had} The critic has lost what it knew: lower critic.lr and critic.matrix_lr."
    if health.advantage_std < LEAST_ADVANTAGE_SPREAD * health.return_std:
        alike = (
            f"The critic finds all utterances alike: the spread of advantages is {health.advantage_std:.3g}, "
            f"{of_returns}. The actor has nothing to learn from."
        )
        had = _once("advantage_std", health.advantage_std / health.return_std, LEAST_ADVANTAGE_SPREAD, logged)
        if had is None:
            yield False, f"{alike} See whether its utterances differ; if they do, give the critic more updates."
        else:
            yield True, f"{alike} {had} See whether its utterances still differ; if they do, lower critic.lr."


def _once(name: str, now: float, least: float, logged: Sequence[Mapping[str, Any]]) -> str | None:
    """When a spread was greatest in training, in spreads of the returns; None if it was never above ``least``, or not
    clearly more than ``now``."""
    shares = {
        row["iteration"]: row[f"critic/{name}"] / row["critic/return_std"]
        for row in logged
        if row.get(f"critic/{name}") is not None and row.get("critic/return_std")
    }
    best = max(shares, key=lambda iteration: shares[iteration], default=None)
    if best is None or shares[best] < max(least, LOST * now):
        return None
    return f"In iteration {best} it was {shares[best]:.2g} of the spread of the returns, and is {now:.2g}."


def _immaturity(health: Health) -> Iterator[str]:
    """Only for a critic with finite values and for returns that vary."""
    share, half_width = health.sign_share, health.sign_share_ci95
    if share is not None and half_width is not None and not _worth_following(health):
        shown = f"right-sign share {share:.2f} ± {half_width:.2f}"
        if share + half_width < 0.5 and (health.advantage_correlation or 0.0) <= 0:
            yield f"Advantages point the wrong way ({shown}): the actor would learn to play worse. {MORE}"
        elif share - half_width <= 0.5 <= share + half_width and half_width <= SHARP:
            yield f"The signs of advantages are hardly better than coin flipping ({shown}). {MORE}"
    if health.explained_variance is not None and health.explained_variance < LEAST_EXPLAINED:
        yield (
            f"Q tells more apart than there is: its spread is {health.q_std:.3g}, that of the returns "
            f"{health.return_std:.3g}, and its errors vary {1 - health.explained_variance:.2g} times as much as these. "
            "The actor would follow differences that are none: lower critic.lr and critic.matrix_lr, or more games."
        )
    if health.correlation is not None and health.correlation < LEAST_CORRELATION and not _worth_following(health):
        yield f"Q hardly goes with the returns (correlation {health.correlation:.2f}). {MORE}"
    if health.bias is not None and health.return_std and abs(health.bias) > MOST_BIAS * health.return_std:
        where = "above" if health.bias > 0 else "below"
        yield (
            f"Q is {abs(health.bias):.3g} {where} the returns on average, more than they vary "
            f"({health.return_std:.3g}): it has not caught up with what the policy now reaches. {MORE}"
        )
    if health.relative_twin_gap is not None and health.relative_twin_gap > MOST_TWIN_GAP:
        yield (
            f"The two heads of Q differ by {health.twin_gap:.3g} on average, {health.relative_twin_gap:.1f} times the "
            f"spread of the returns: they have seen too little. {MORE}"
        )


def _doubt(health: Health) -> Iterator[str]:
    share, half_width = health.sign_share, health.sign_share_ci95
    if health.nonfinite or _worth_following(health):
        return
    if share is None or half_width is None:
        if health.advantage_std and health.q_std:
            yield "V foretold every return: nothing is left that advantages could be right or wrong about."
    elif share + half_width < 0.5:
        yield (
            f"Most advantages have the wrong sign (share {share:.2f} ± {half_width:.2f}), though on average they go "
            f"with what came of them (correlation {health.advantage_correlation:.2f}), as where good utterances are "
            "long shots. Whether that is chance takes more games to tell."
        )
    elif half_width > SHARP and abs(share - 0.5) <= half_width:
        yield (
            f"The signs of advantages may be right by chance (share {share:.2f} ± {half_width:.2f}), and the "
            "interval is too wide to say more: take more games."
        )


def _worth_following(health: Health) -> bool:
    """Whether advantages go with what came of them on average, by more than chance: that is what an actor follows."""
    found, half_width = health.advantage_correlation, health.advantage_correlation_ci95
    return found is not None and half_width is not None and found - half_width > 0
