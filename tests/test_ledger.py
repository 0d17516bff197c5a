"""The ledger of a run on a cluster: every game once, none too old, whatever crashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from archer.cluster.actors import LedgerActor
from archer.cluster.journal import Journal
from archer.cluster.ledger import Ledger
from archer.cluster.records import TRAINING, Delivery, Entry, Terms, Work, chunk_path

MakeLedger = Callable[..., Ledger]


def _terms(**changes: float) -> Terms:
    return Terms(**{"chunks": 2, "iterations": 10, "lag": 1, "overdue": 0.0, "keep": 2, **changes})  # type: ignore[arg-type]


def _delivery(work: Work, player: str = "a", *, iteration: int = 0, publication: int = 1) -> Delivery:
    shard = f"{work.job} {work.part} by {player}".encode()
    return Delivery(player, work.job, work.part, publication, iteration, shard, {}, 1.0)


def _handed(ledger: Ledger, *players: str) -> list[int]:
    """The chunk that each player gets, -1 for none."""
    return [-1 if (work := ledger.ask(player)) is None else work.part for player in players]


def _play(ledger: Ledger, *chunks: int, iteration: int = 0) -> list[str]:
    return [ledger.deliver(_delivery(Work(TRAINING, chunk), iteration=iteration)) for chunk in chunks]


def _numbers(entries: list[Entry] | None) -> list[int] | None:
    return None if entries is None else [entry.chunk for entry in entries]


def test_no_more_is_handed_out_than_can_be_learned_from_in_time(tmp_path: Path) -> None:
    """Two chunks an iteration, one iteration ahead: four of them while nothing has been learned, six after one."""
    ledger = Ledger(tmp_path, _terms())
    assert _handed(ledger, "a") == [-1], "no weights yet"
    ledger.publish(1, None)
    assert _handed(ledger, "a") == [-1], "weights that are only to be measured"
    ledger.publish(2, 0)
    assert _handed(ledger, *"abcde") == [0, 1, 2, 3, -1]
    assert _play(ledger, 2, 0) == ["kept", "kept"]
    assert _numbers(ledger.take(1)) == [0, 2]
    assert _handed(ledger, "a") == [-1], "the weights are the same still"
    ledger.publish(3, 1)
    assert _handed(ledger, *"ace") == [4, 5, -1]


def test_nothing_is_handed_out_beyond_the_last_iteration(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, _terms(iterations=1, lag=5))
    ledger.publish(1, 0)
    assert _handed(ledger, *"abc") == [0, 1, -1]


def test_games_are_taken_as_they_come_but_for_what_would_become_too_old(tmp_path: Path) -> None:
    """Chunks 0 to 3 were handed out to nothing learned. While 0 and 1 are still played, iteration 1 takes 2 and 3 and
    4 and 5 come in; iteration 2 must wait for 0 and 1, which are of two iterations ago in the next."""
    ledger = Ledger(tmp_path, _terms())
    ledger.publish(1, 0)
    assert _handed(ledger, *"abcd") == [0, 1, 2, 3]
    _play(ledger, 2, 3)
    assert _numbers(ledger.take(1)) == [2, 3]
    ledger.publish(2, 1)
    assert _handed(ledger, "c", "d") == [4, 5]
    _play(ledger, 4, 5, iteration=1)
    assert ledger.take(2) is None
    _play(ledger, 1)
    assert ledger.take(2) is None
    _play(ledger, 0)
    assert _numbers(ledger.take(2)) == [0, 1]


def test_late_games_are_foreseen_more_than_one_iteration_ahead(tmp_path: Path) -> None:
    """With lag 2, six chunks are of nothing learned. If iteration 2 took none of 2 to 5, all four would be due in the
    third, which takes two."""
    ledger = Ledger(tmp_path, _terms(lag=2))
    ledger.publish(1, 0)
    assert _handed(ledger, *"abcdef") == [0, 1, 2, 3, 4, 5]
    _play(ledger, 0, 1)
    assert _numbers(ledger.take(1)) == [0, 1]
    ledger.publish(2, 1)
    assert _handed(ledger, "a", "b") == [6, 7]
    _play(ledger, 6, 7, iteration=1)
    assert ledger.take(2) is None
    _play(ledger, 5, 4)
    assert _numbers(ledger.take(2)) == [4, 5]


def test_what_a_dead_player_had_goes_to_another_and_counts_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, _terms())
    ledger.publish(1, 0)
    assert _handed(ledger, *"abcd") == [0, 1, 2, 3]
    ledger.gone("b")
    assert _handed(ledger, "e") == [1]
    assert _play(ledger, 1) == ["kept"]
    assert ledger.deliver(_delivery(Work(TRAINING, 1), "b")) == "duplicate", "it was not dead, only slow"
    assert chunk_path(tmp_path, 1).read_bytes() == b"0 1 by a"
    assert ledger.counts == {"kept": 1, "duplicate": 1, "again": 1}


def test_what_comes_from_a_player_that_was_given_up_is_not_played_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, _terms())
    ledger.publish(1, 0)
    assert _handed(ledger, "a", "b") == [0, 1]
    ledger.gone("a")
    assert _play(ledger, 0) == ["kept"]
    assert _handed(ledger, "c") == [2]


def test_a_player_that_asks_again_has_lost_what_it_had(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, _terms())
    ledger.publish(1, 0)
    assert _handed(ledger, "a", "a", "b") == [0, 0, 1]


def test_what_is_overdue_goes_to_another_too(tmp_path: Path) -> None:
    now = 0.0
    ledger = Ledger(tmp_path, _terms(lag=0, overdue=60.0), clock=lambda: now)
    ledger.publish(1, 0)
    assert _handed(ledger, "a", "b") == [0, 1]
    now = 59.0
    assert _handed(ledger, "c") == [-1]
    now = 61.0
    assert _handed(ledger, "c", "d", "e") == [0, 1, -1]
    assert _play(ledger, 1, 0) == ["kept", "kept"]
    assert ledger.deliver(_delivery(Work(TRAINING, 0), "c")) == "duplicate"


def test_games_by_weights_that_are_too_old_are_played_anew(tmp_path: Path) -> None:
    """Player a is given up, its chunk handed out anew two iterations later; then it comes after all."""
    ledger = Ledger(tmp_path, _terms(lag=0))
    ledger.publish(1, 0)
    assert _handed(ledger, "a", "b") == [0, 1]
    ledger.gone("a")
    assert _handed(ledger, "c") == [0]
    _play(ledger, 0, 1)
    assert _numbers(ledger.take(1)) == [0, 1]
    ledger.publish(2, 1)
    assert _handed(ledger, "a", "b") == [2, 3]
    late = Work(TRAINING, 2)
    assert ledger.deliver(_delivery(late, "x", iteration=0)) == "stale"
    assert _play(ledger, 2, 3, iteration=1) == ["kept", "kept"]


def test_evaluations_come_first_and_are_of_the_weights_that_were_published(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, _terms())
    ledger.publish(1, 0)
    ledger.submit(1, [[1, 3], [5]], 4)
    first, second, third = (ledger.ask(player) for player in "abc")
    assert (first, second) == (Work(1, 0, (1, 3), 4), Work(1, 1, (5,), 4))
    assert third == Work(TRAINING, 0)
    assert second is not None and first is not None
    ledger.gone("b")
    assert ledger.ask("d") == second
    assert ledger.deliver(_delivery(second, "d")) == "kept"
    assert ledger.deliver(_delivery(second, "b")) == "duplicate"
    assert ledger.results(1) == [_delivery(second, "d")]
    assert ledger.deliver(_delivery(first, "a", publication=0)) == "stale"
    assert ledger.deliver(_delivery(first, "a")) == "kept"
    assert [delivery.part for delivery in ledger.results(1)] == [0, 1]


def test_a_line_that_was_cut_off_never_happened(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, _terms())
    ledger.publish(1, 0)
    _handed(ledger, "a", "b")
    _play(ledger, 0, 1)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    again = Ledger(tmp_path, _terms())
    assert again.account()["acknowledged"] == [0]
    again.publish(1, 0)
    assert _handed(again, "a") == [1]
    _play(again, 1)
    assert [event["chunk"] for event in Journal(journal).events] == [0, 1]


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"iteration": 1, "chunks": []}\nrubbish\n')
    with pytest.raises(ValueError, match=r"journal.jsonl, line 2: not JSON"):
        Ledger(tmp_path, _terms())


def _learned(folder: Path, iterations: int, **changes: float) -> Terms:
    """A ledger that has served so many iterations."""
    terms = _terms(**changes)
    ledger = Ledger(folder, terms)
    for number in range(iterations):
        ledger.publish(number + 1, number)
        while (work := ledger.ask("a")) is not None:
            assert ledger.deliver(_delivery(work, iteration=number)) == "kept"
        assert ledger.take(number + 1) is not None
    return terms


def test_a_resumed_run_takes_what_it_took_before(tmp_path: Path) -> None:
    """Three iterations were taken, the newest checkpoint is of the second: the third gets the same games again."""
    terms = _learned(tmp_path, 3)
    before = Ledger(tmp_path, terms, 2).account()
    ledger = Ledger(tmp_path, terms, 2)
    assert _numbers(ledger.take(3)) == before["taken"][3]
    ledger.publish(1, 3)
    assert _handed(ledger, "a") == [8], "eight chunks were acknowledged, two of them for the fourth iteration"


def test_games_are_kept_for_every_checkpoint_that_is(tmp_path: Path) -> None:
    """After iteration 4 the checkpoints 2, 3 (and, when it is done, 4) are there; games of 3 and 4 may be asked for."""
    terms = _learned(tmp_path, 4, lag=0)
    files = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert files == [f"{chunk:06d}.parquet" for chunk in range(4, 8)]
    assert _numbers(Ledger(tmp_path, terms, 2).take(3)) == [4, 5]


def test_where_games_are_lost_they_are_played_anew(tmp_path: Path) -> None:
    """All checkpoints but that of the start are damaged: the games of iterations 1 and 2 are gone, and so is what came
    of them; those of 3 and 4 are there still."""
    terms = _learned(tmp_path, 4, lag=0)
    ledger = Ledger(tmp_path, terms, 0)
    assert ledger.account()["taken"] == {}
    assert ledger.account()["acknowledged"] == [4, 5, 6, 7]
    assert [event["chunk"] for event in Journal(tmp_path / "journal.jsonl").events] == [4, 5, 6, 7]


def test_a_ledger_of_another_run_is_refused(tmp_path: Path) -> None:
    terms = _learned(tmp_path, 2)
    with pytest.raises(ValueError, match="knows of 2 iterations and the checkpoint of 3"):
        Ledger(tmp_path, terms, 3)


class _World:
    """Players of all speeds, a learner, and crashes: of players, of the ledger, of the learner; drawn from a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.folder = folder
        self.terms = _terms(
            chunks=self.draw.randint(1, 4), iterations=12, lag=self.draw.randint(0, 3),
            overdue=self.draw.choice([0.0, 5.0]), keep=self.draw.randint(1, 3),
        )  # fmt: skip
        self.now = 0.0
        self.done = 0  # iterations of the newest checkpoint
        self.publication = 0
        self.playing: dict[str, tuple[Work, int]] = {}  # and the iteration of the weights
        self.names = [f"player-{number}" for number in range(self.draw.randint(1, 6))]
        self.learned: dict[int, list[int]] = {}
        self.acknowledged: set[int] = set()
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.folder, self.terms, self.done, clock=lambda: self.now)
        self.publish()

    def publish(self) -> None:
        self.publication += 1
        self.weights = self.done
        self.ledger.publish(self.publication, self.done)

    def happen(self) -> None:
        self.now += 1.0
        match self.draw.choices(
            ["ask", "deliver", "take", "player dies", "ledger dies", "learner dies", "joins"],
            [30, 25, 20, 2, 1, 1, 1],
        ):  # fmt: skip
            case ["ask"]:
                name = self.draw.choice(self.names)
                if name not in self.playing and (work := self.ledger.ask(name)) is not None:
                    self.playing[name] = work, self.weights
            case ["deliver"] if self.playing:
                name = self.draw.choice(list(self.playing))
                work, weights = self.playing.pop(name)
                verdict = self.ledger.deliver(_delivery(work, name, iteration=weights))
                assert (verdict == "duplicate") == (work.part in self.acknowledged)
                if verdict == "kept":
                    self.acknowledged.add(work.part)
            case ["take"] if self.done < self.terms.iterations:
                if (entries := self.ledger.take(self.done + 1)) is not None:
                    self.learn(entries)
            case ["player dies"]:
                name = self.draw.choice(self.names)
                self.ledger.gone(name)
                if self.draw.random() < 0.5:  # else it was thought to be dead, and is not
                    self.playing.pop(name, None)
            case ["ledger dies"]:
                self.open()
            case ["learner dies"]:  # and the whole cluster with it
                self.playing.clear()
                if self.draw.random() < 0.3:  # the newest checkpoint is damaged
                    self.done = max(0, self.done - self.draw.randint(0, self.terms.keep - 1))
                self.open()
            case ["joins"]:
                self.names.append(f"player-{len(self.names)}")

    def learn(self, entries: list[Entry]) -> None:
        number = self.done + 1
        chunks = [entry.chunk for entry in entries]
        assert len(chunks) == self.terms.chunks and chunks == sorted(set(chunks))
        assert all(chunk_path(self.folder, chunk).exists() for chunk in chunks), "acknowledged and lost"
        assert max(number - 1 - entry.iteration for entry in entries) <= self.terms.lag
        assert self.learned.get(number, chunks) == chunks, "a resumed learner got other games than before"
        self.learned[number] = chunks
        if self.draw.random() < 0.9:  # else the learner dies before its checkpoint is written
            self.done = number
        else:
            self.playing.clear()
            self.open()
        self.publish()


@pytest.mark.parametrize("seed", range(60))
def test_every_game_once_whatever_happens(seed: int, tmp_path: Path) -> None:
    world = _World(tmp_path, seed)
    for _ in range(20_000):
        world.happen()
        if world.done == world.terms.iterations:
            break
    assert world.done == world.terms.iterations, "it came to a standstill"
    games = sorted(chunk for chunks in world.learned.values() for chunk in chunks)
    assert games == list(range(world.terms.chunks * world.terms.iterations))


def test_weights_that_come_late_do_not_take_the_place_of_newer_ones(tmp_path: Path) -> None:
    async def told() -> tuple[int, list[str]]:
        actor = LedgerActor(tmp_path, _terms(), 0)
        for publication in (1, 3, 2):
            await actor.publish(publication, 0, [f"weights {publication}"])
        return actor._publication, actor._weights

    assert asyncio.run(told()) == (3, ["weights 3"])
