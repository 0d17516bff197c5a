"""The ledger: which games were handed out, which have come in, and which were taken to learn from.

It knows games by the number of their chunk, so what is played does not depend on who plays. A chunk counts once its
games and then its line in the journal are on the disk; whatever the journal says is all that survives a crash, and all
that needs to. This is arithmetic and files only: who calls it from where is the business of `actors`.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from archer.cluster.journal import Journal
from archer.cluster.records import TRAINING, Delivery, Entry, Terms, Work, chunk_path
from archer.storage.files import replacing

Verdict = Literal["kept", "duplicate", "stale"]


@dataclass
class _Hand:
    """Work that somebody has in hand."""

    work: Work
    player: str
    since: float
    iteration: int
    """Of the weights it is played with."""


@dataclass
class _Job:
    """Games of an evaluation."""

    number: int
    publication: int
    waiting: list[Work]
    results: dict[int, Delivery]


class Ledger:
    """The account of one run.

    iteration: that of the checkpoint which the learner goes on from. What was taken after it is taken again, as it was.
    Raises ValueError where the journal and the checkpoint do not agree.
    """

    def __init__(
        self, folder: Path, terms: Terms, iteration: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._terms, self._clock = folder, terms, clock
        self._journal = Journal(folder / "journal.jsonl")
        self._entries: dict[int, Entry] = {}  # by chunk, in the order in which they came in
        self._taken: dict[int, list[int]] = {}  # chunks by iteration
        self._restore(iteration)
        taken = {chunk for chunks in self._taken.values() for chunk in chunks}
        self._untaken = {chunk: None for chunk in self._entries if chunk not in taken}  # in the order of arrival
        self._next = 0  # the first chunk that was never handed out by this process
        self._returned: list[int] = []  # chunks that came back unplayed, a heap
        self._hands: dict[tuple[int, int], _Hand] = {}
        self._published: tuple[int, int | None] | None = None  # publication, iteration
        self._job: _Job | None = None
        self._seen: set[str] = set()
        self.counts: Counter[str] = Counter()
        """Deliveries by verdict, and how often work was handed out ``again``."""

    def _restore(self, iteration: int) -> None:
        """Read the journal; where files are missing that this checkpoint's future needs, strike out what needs them."""
        for event in self._journal.events:
            if "chunks" in event:
                self._taken[event["iteration"]] = event["chunks"]
            else:
                self._entries[event["chunk"]] = Entry(**event)
        last = max(self._taken, default=0)
        if last < iteration:
            raise ValueError(
                f"{self._folder}: the ledger knows of {last} iterations and the checkpoint of {iteration}; they are "
                "not of the same run"
            )
        again = [chunk for number, chunks in self._taken.items() if number > iteration for chunk in chunks]
        untaken = set(self._entries).difference(*self._taken.values())
        lost = {chunk for chunk in (*again, *untaken) if not chunk_path(self._folder, chunk).exists()}
        if lost:
            first = min((n for n, chunks in self._taken.items() if lost & set(chunks)), default=last + 1)
            kept = [
                event
                for event in self._journal.events
                if (event["iteration"] < first if "chunks" in event else event["chunk"] not in lost)
            ]
            self._journal.rewrite(kept)
            self._entries = {chunk: entry for chunk, entry in self._entries.items() if chunk not in lost}
            self._taken = {number: chunks for number, chunks in self._taken.items() if number < first}

    # What the learner says and asks.

    def publish(self, publication: int, iteration: int | None) -> None:
        """From now on games are played with these weights, which have learned from so many iterations; with None only
        evaluations are, as nobody has yet begun to learn from games."""
        self._published = publication, iteration

    def take(self, iteration: int) -> list[Entry] | None:
        """The games of an iteration, by their numbers; None until there are enough.

        Those that came in first, but for what would otherwise become too old: of the oldest weights first, and never so
        that what is still being played could not be learned from in time.
        """
        if iteration not in self._taken:
            ready = sorted(
                self._untaken, key=lambda chunk: self._entries[chunk].iteration
            )  # of equals the first to come
            chosen = ready[: self._terms.chunks]
            left = [self._entries[chunk].iteration for chunk in ready[self._terms.chunks :]] + self._in_play()
            if len(chosen) < self._terms.chunks or not self._in_time(left, iteration + 1):
                return None
            self._journal.append({"iteration": iteration, "chunks": sorted(chosen)})
            self._taken[iteration] = sorted(chosen)
            for chunk in chosen:
                del self._untaken[chunk]
            for chunk in self._taken.get(iteration - self._terms.keep, []):
                chunk_path(self._folder, chunk).unlink(missing_ok=True)
        return [self._entries[chunk] for chunk in self._taken[iteration]]

    def submit(self, job: int, parts: Sequence[Sequence[int]], best_of: int) -> None:
        """Have an evaluation played with the published weights, before any other game; one at a time."""
        assert self._published is not None, "published before it is measured"
        if self._job is None or self._job.number != job:
            work = [Work(job, part, tuple(seeds), best_of) for part, seeds in enumerate(parts)]
            self._job = _Job(job, self._published[0], work[::-1], {})

    def results(self, job: int) -> list[Delivery]:
        """The parts of an evaluation that have come in, in order. Raises KeyError for one it does not know."""
        if self._job is None or self._job.number != job:
            raise KeyError(job)
        return [self._job.results[part] for part in sorted(self._job.results)]

    # What players say and ask.

    def ask(self, player: str) -> Work | None:
        """Something to play; None while there is nothing, or while it would become too old.

        A player plays one piece of work at a time: what it still had in hand it has lost.
        """
        self.gone(player)
        self._seen.add(player)
        if self._published is None:
            return None
        work = self._evaluation() or self._chunk() or self._overdue(player)
        if work is not None:
            self._hands[work.job, work.part] = _Hand(work, player, self._clock(), self._published[1] or 0)
        return work

    def deliver(self, delivery: Delivery) -> Verdict:
        """Take in games: ``kept`` says that they are on the disk and will be learned from, once."""
        verdict = self._keep_result(delivery) if delivery.job != TRAINING else self._keep_chunk(delivery)
        self.counts[verdict] += 1
        return verdict

    def gone(self, player: str) -> None:
        """Whatever this player had in hand is to be played by another."""
        for place, hand in list(self._hands.items()):
            if hand.player == player:
                del self._hands[place]
                self._give_back(hand.work)
        self._seen.discard(player)

    @property
    def seen(self) -> set[str]:
        """Players that have asked for work."""
        return self._seen

    # How it comes to its answers.

    def _evaluation(self) -> Work | None:
        return self._job.waiting.pop() if self._job and self._job.waiting else None

    def _chunk(self) -> Work | None:
        """The first chunk that nobody has, if that may be handed out."""
        iteration = None if self._published is None else self._published[1]
        if iteration is None:
            return None
        out = len(self._entries) + sum(work not in self._entries for job, work in self._hands if job == TRAINING)
        ahead = min(iteration + 1 + self._terms.lag, self._terms.iterations)
        if out >= ahead * self._terms.chunks:
            return None
        while self._returned:
            chunk = heapq.heappop(self._returned)
            if chunk not in self._entries:  # which its first player may have brought after all
                self.counts["again"] += 1
                return Work(TRAINING, chunk)
        while self._next in self._entries or (TRAINING, self._next) in self._hands:
            self._next += 1
        self._next += 1
        return Work(TRAINING, self._next - 1)

    def _overdue(self, player: str) -> Work | None:
        """What another player has had in hand for too long."""
        latest = self._clock() - self._terms.overdue
        for hand in self._hands.values() if self._terms.overdue else ():
            if hand.since < latest and hand.player != player:
                self.counts["again"] += 1
                return hand.work
        return None

    def _keep_chunk(self, delivery: Delivery) -> Verdict:
        chunk, place = delivery.part, (TRAINING, delivery.part)
        if chunk in self._entries:
            return "duplicate"
        waiting = [self._entries[other].iteration for other in self._untaken]
        unlearned = [*waiting, *self._in_play(without=chunk), delivery.iteration]
        if not self._in_time(unlearned, max(self._taken, default=0) + 1):
            return "stale"  # handed out anew since, by this process or the one before it
        with replacing(chunk_path(self._folder, chunk)) as temporary:
            temporary.write_bytes(delivery.shard)
        entry = Entry(chunk, delivery.iteration, delivery.tally, delivery.seconds, delivery.player)
        self._journal.append(asdict(entry))
        self._entries[chunk] = entry
        self._untaken[chunk] = None
        self._hands.pop(place, None)
        return "kept"

    def _keep_result(self, delivery: Delivery) -> Verdict:
        job = self._job
        if job is None or job.number != delivery.job or delivery.part in job.results:
            return "duplicate"
        if job.publication != delivery.publication:
            return "stale"
        job.results[delivery.part] = delivery
        self._hands.pop((delivery.job, delivery.part), None)
        return "kept"

    def _give_back(self, work: Work) -> None:
        if work.job == TRAINING:
            heapq.heappush(self._returned, work.part)
        elif self._job is not None and self._job.number == work.job:
            self._job.waiting.append(work)

    def _in_play(self, without: int | None = None) -> list[int]:
        """Iterations of the weights behind chunks that are being played."""
        return [
            hand.iteration
            for (job, chunk), hand in self._hands.items()
            if job == TRAINING and chunk not in self._entries and chunk != without
        ]

    def _in_time(self, behind: list[int], iteration: int) -> bool:
        """Whether chunks of such weights can all be learned from in time, oldest first, from ``iteration`` on."""
        return all(
            iteration - 1 + place // self._terms.chunks - weights <= self._terms.lag
            for place, weights in enumerate(sorted(behind))
        )

    def account(self) -> dict[str, Any]:
        """Where all chunks are: acknowledged, taken by each iteration, in whose hands."""
        return {
            "acknowledged": sorted(self._entries),
            "taken": dict(self._taken),
            "in_play": {chunk: hand.player for (job, chunk), hand in self._hands.items() if job == TRAINING},
            "counts": dict(self.counts),
        }
