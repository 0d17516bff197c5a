"""Environments that misbehave: what is kept, what is counted, when a run stops; and what of a history is read."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from archer.envs.hosting import Hosting
from archer.metrics import episode_metrics
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.rollout.play import Limits, play
from archer.rollout.sampling import Sampling
from archer.rollout.seat import EnvironmentFailure, Faults, Tally
from archer.types import End, Episode
from tests.conftest import LIMITS, SAMPLING
from tests.worlds import Echo, Flaky, Misbehaving, Mixed


def _same(one: Episode, other: Episode) -> bool:
    return (
        [(t.observation, t.utterance.text, t.reward) for t in one.turns]
        == [(t.observation, t.utterance.text, t.reward) for t in other.turns]
        and one.end == other.end
        and np.array_equal(one.final_prompt_ids, other.final_prompt_ids)
    )


def test_three_hundred_games_of_which_thirty_go_wrong(actor: Actor) -> None:
    """Every kind of failure, in processes: exact accounts, and the other games as if nothing had happened."""
    seeds = list(range(300))
    limits = dataclasses.replace(LIMITS, parallel=64, workers=4, retries=0, max_failures=0.2)
    faults = Faults(len(seeds), limits.max_failures)
    with Hosting(Mixed, workers=4, processes=True, timeout=0.5) as make:
        found = play(actor, make, seeds, task="echo", sampling=SAMPLING, limits=limits, faults=faults)
    assert not multiprocessing.active_children()
    wrong = {seed: Mixed.fault_of(seed) for seed in seeds if seed % 10 == 7}
    kinds = {"raise": "exception", "reset": "exception", "hang": "timeout", "die": "died"}
    assert faults.counts == Counter(kinds.get(fault, "contract") for fault in wrong.values())
    assert faults.failed == 30
    assert faults.dropped == sum(fault == "reset" for fault in wrong.values()) == 3
    assert len(found) == 300 - 3
    right = {
        episode.seed: episode for episode in play(actor, Echo, seeds, task="echo", sampling=SAMPLING, limits=limits)
    }
    for episode in found:
        fault = wrong.get(episode.seed)
        if fault is None:
            assert _same(episode, right[episode.seed])
        else:  # its first turn is as it would have been, and then it was truncated
            assert episode.end is (End.TIMEOUT if fault == "hang" else End.ENV_ERROR)
            assert len(episode) == 1
            assert episode.turns[0].utterance.text == right[episode.seed].turns[0].utterance.text
            assert np.array_equal(episode.final_prompt_ids, right[episode.seed].turns[1].prompt_ids)
    told = faults.metrics
    assert told["rollout/env_failed"] == 30 and told["rollout/env_timeout"] == faults.counts["timeout"]
    whole = [episode for episode in found if episode.seed not in wrong]
    assert episode_metrics(found, "x")["x/return_mean"] == episode_metrics(whole, "x")["x/return_mean"]


def test_a_fresh_copy_is_told_the_same_and_the_game_goes_on(actor: Actor) -> None:
    faults = Faults(10, 0.0)
    found = play(actor, Flaky, list(range(10)), task="echo", sampling=SAMPLING, limits=LIMITS, faults=faults)
    right = play(actor, Echo, list(range(10)), task="echo", sampling=SAMPLING, limits=LIMITS)
    assert all(_same(*pair) for pair in zip(found, right, strict=True))
    assert faults.counts["exception"] > 0 and faults.failed == 0


def test_a_copy_that_answers_otherwise_does_not_go_on_with_the_game(actor: Actor) -> None:
    """What was heard must stay true: the game is given up instead."""

    class Moody(Echo):
        copies = 0

        def __init__(self) -> None:
            Moody.copies += 1
            self.mood = Moody.copies

        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            answer = super().step(utterance)
            if self.mood == 1 and self.turn == 3:
                raise ConnectionError("try again")
            return (f"{answer[0]} ({self.mood})", *answer[1:])

    faults = Faults(2, 0.5)
    found = play(actor, Moody, [4, 0], task="echo", sampling=SAMPLING, limits=LIMITS, faults=faults)
    assert faults.counts["exception"] == 2  # the failure, and the copy that says (2) where the first had said (1)
    assert [(len(episode), episode.end) for episode in found] == [(2, End.ENV_ERROR), (1, End.TERMINATED)]


def test_too_many_failures_stop_the_run_with_a_report(actor: Actor) -> None:
    class Half(Misbehaving):
        def __init__(self) -> None:
            super().__init__("raise")

    limits = dataclasses.replace(LIMITS, max_failures=0.25)
    with pytest.raises(EnvironmentFailure, match=r"failed in 6 of 20 games \(12 exception; .*KeyError") as caught:
        play(actor, Half, list(range(20)), task="echo", sampling=SAMPLING, limits=limits)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)  # type: ignore[union-attr]
    allowed = dataclasses.replace(limits, max_failures=0.5)
    assert len(play(actor, Half, list(range(20)), task="echo", sampling=SAMPLING, limits=allowed)) == 10


class Wordy(Echo):
    """Echo, some of whose games begin with more than there is room for."""

    long: frozenset[int] = frozenset()
    begun = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        Wordy.begun += 1
        first, info = super().reset(seed=seed)
        return first * (100 if seed in self.long else 1), info


@pytest.mark.parametrize("workers", [0, 4])
def test_a_game_that_begins_with_too_much_is_dropped_and_counted(
    actor: Actor, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    seeds, limits = list(range(20)), dataclasses.replace(LIMITS, workers=workers)
    right = play(actor, Echo, seeds, task="echo", sampling=SAMPLING, limits=limits)
    monkeypatch.setattr(Wordy, "long", {0, 7})
    monkeypatch.setattr(Wordy, "begun", 0)
    faults = Faults(20, 0.1)
    found = play(actor, Wordy, seeds, task="echo", sampling=SAMPLING, limits=limits, faults=faults)
    assert all(_same(*pair) for pair in zip(found, [g for g in right if g.seed not in Wordy.long], strict=True))
    assert (faults.counts, faults.failed, faults.dropped, faults.begun) == ({"too_long": 2}, 2, 2, 18)
    assert faults.metrics == {"rollout/env_too_long": 2, "rollout/env_failed": 2, "rollout/env_dropped": 2}
    assert Wordy.begun == 20  # another copy would say the same
    alone = play(
        actor, Wordy, [7, 8, 9], task="echo", sampling=SAMPLING, limits=dataclasses.replace(limits, max_failures=0.5)
    )
    assert [episode.seed for episode in alone] == [8, 9]


def test_where_too_many_games_begin_with_too_much_the_run_stops_and_names_one(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wordy, "long", {6, 7, 9})
    reason = r"failed in 3 of 20 games \(3 too_long; .* seed 6, turn 0: .*max_tokens=160 is too small.* raise it to 602"
    with pytest.raises(EnvironmentFailure, match=reason):
        play(actor, Wordy, list(range(20)), task="echo", sampling=SAMPLING, limits=LIMITS)


def test_where_no_game_can_begin_the_setting_is_refused_at_once(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(20)
    monkeypatch.setattr(Wordy, "long", set(seeds))
    monkeypatch.setattr(Wordy, "begun", 0)
    reason = "no game can begin; in the game with seed 0, turn 0: rollout.max_tokens=160 is too small"
    with pytest.raises(ValueError, match=reason):
        play(actor, Wordy, seeds, task="echo", sampling=SAMPLING, limits=LIMITS)
    assert Wordy.begun == 3  # the first more than a tenth of twenty
    # Another failure among them, or a game that has begun anywhere: it is not the setting alone.
    tally = Tally({"too_long": 3}, 3, 3, "in the game with seed 0, turn 0: too small")
    for other in (Tally({"exception": 1}, 1, 1), Tally(begun=1)):
        faults = Faults(20, 0.2)
        faults.add(tally)
        with pytest.raises(EnvironmentFailure):
            faults.settle([other, tally, tally])
    with pytest.raises(ValueError, match="no game can begin; in the game with seed 0"):
        Faults(20, 0.2).settle([tally, tally])
    faults = Faults(20, 0.2)
    faults.begin()
    faults.settle([Tally(begun=1), Tally(begun=2)])  # one of them is what was counted here
    assert faults.tally == Tally(begun=3)


def test_a_history_that_is_replaced_is_the_newest_observation(actor: Actor) -> None:
    limits = dataclasses.replace(LIMITS, history="replace")
    for episode in play(actor, Echo, [4, 9], task="echo", sampling=SAMPLING, limits=limits):
        for turn in episode.turns:
            assert actor.tokenizer.decode(turn.prompt_ids, skip_special_tokens=True) == f"{turn.observation}\n"
        batch = collate([episode])
        assert actor.logprobs(batch, batch.utterance_tokens()).detach().numpy() == pytest.approx(
            episode.logprobs, abs=1e-4
        )


def test_the_same_word_at_the_same_place_is_drawn_anew_in_every_turn(actor: Actor) -> None:
    """Where each turn is read from the start, its random numbers must not be those of the turn before."""

    class Monotonous(Echo):
        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            return ("Say a word.", *super().step(utterance)[1:])

    limits = dataclasses.replace(LIMITS, history="replace")
    episode = play(actor, Monotonous, [4], task="echo", sampling=SAMPLING, limits=limits)[0]
    assert len({turn.utterance.text for turn in episode.turns}) > 1


def test_a_window_drops_the_oldest_turns_and_says_how_often(actor: Actor) -> None:
    seeds = [4, 9, 14, 19]
    short = Sampling(max_tokens=6)
    whole = play(actor, Echo, seeds, task="echo", sampling=short, limits=LIMITS)
    longest = max(len(turn.prompt_ids) for episode in whole for turn in episode.turns)
    limits = Limits(50, longest, 4, history="window")
    found = play(actor, Echo, seeds, task="echo", sampling=short, limits=limits)
    cut = 0
    for episode in found:
        first = episode.turns[0].prompt_ids
        assert len(episode) == 5 and episode.end is not End.TOKEN_LIMIT
        for before, turn in zip(episode.turns, episode.turns[1:], strict=False):
            newest = np.concatenate([before.prompt_ids, before.utterance.ids])
            assert len(turn.prompt_ids) + 6 <= longest
            assert np.array_equal(turn.prompt_ids[: len(first)], first)  # the task is never forgotten
            grew = np.array_equal(turn.prompt_ids[: len(newest)], newest)
            cut += not grew
            after = turn.prompt_ids[len(first) :].tobytes()
            assert before.utterance.ids.tobytes() in after  # and the newest turn is there
    assert cut > 0
    assert episode_metrics(found, "rollout")["rollout/history_cuts"] == cut
    assert "rollout/history_cuts" not in episode_metrics(whole, "rollout")
