"""Best of N: what is said is what the critic likes best of what the policy offers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from archer.models.actor import Actor
from archer.models.critic import CausalCritic, Critic
from archer.rollout.best_of import play_best_of
from archer.rollout.play import Limits, play
from archer.rollout.prompts import Transcript
from archer.rollout.seat import EnvironmentFailure
from archer.types import End, Episode
from tests.conftest import LIMITS, SAMPLING
from tests.critics import Counts
from tests.worlds import Echo


def _play(
    actor: Actor, critic: Critic, count: int, seeds: Sequence[int] = range(7), parallel: int = 4
) -> list[Episode]:
    limits = Limits(max_turns=50, max_tokens=160, parallel=parallel)
    return play_best_of(
        count, critic, actor, Echo, seeds, task="echo", sampling=SAMPLING, limits=limits, layout=Transcript
    )


def _lengths(games: Sequence[Episode]) -> list[int]:
    return [len(turn.utterance.ids) for game in games for turn in game.turns]


def test_the_critics_favourite_is_said(actor: Actor) -> None:
    one, eight = (_play(actor, Counts(), count, range(40)) for count in (1, 8))
    assert np.mean(_lengths(eight)) > np.mean(_lengths(one))
    # Of eight, nearly all reach the limit where one in some does.
    assert np.mean(np.array(_lengths(eight)) == SAMPLING.max_tokens) > 0.95


def test_the_lesser_of_both_heads_decides(actor: Actor) -> None:
    lengths = np.array(_lengths(_play(actor, Counts(middling=True), 24, range(40))))
    assert np.isin(lengths, (3, 4)).mean() > 2 * np.isin(_lengths(_play(actor, Counts(), 1, range(40))), (3, 4)).mean()


def test_records_are_those_of_ordinary_play(actor: Actor) -> None:
    games = _play(actor, Counts(), 3)
    plain = play(actor, Echo, range(7), task="echo", sampling=SAMPLING, limits=LIMITS, layout=Transcript)
    for game, other in zip(games, plain, strict=True):
        assert (game.seed, game.task, game.end, len(game)) == (other.seed, other.task, other.end, len(other))
        assert game.rewards.tolist() == other.rewards.tolist()
        behind = [*(turn.prompt_ids for turn in game.turns[1:]), game.final_prompt_ids]
        for turn, following in zip(game.turns, behind, strict=True):
            shown = np.concatenate([turn.prompt_ids, turn.utterance.ids])
            assert following[: len(shown)].tolist() == shown.tolist()
            assert np.isfinite(turn.utterance.logprobs).all()


def test_a_game_depends_on_its_seed_and_not_on_the_table(actor: Actor) -> None:
    torch.manual_seed(0)
    critic = CausalCritic.from_actor(actor)
    together, alone = _play(actor, critic, 3, parallel=7), _play(actor, critic, 3, parallel=1)
    for a, b in zip(together, alone, strict=True):
        assert a.final_prompt_ids.tolist() == b.final_prompt_ids.tolist()


def test_the_token_limit_ends_a_game(actor: Actor) -> None:
    limits = Limits(max_turns=50, max_tokens=40, parallel=4)
    games = play_best_of(2, Counts(), actor, Echo, [4, 9], task="echo", sampling=SAMPLING, limits=limits)
    assert all(len(game.final_prompt_ids) <= 40 + 20 for game in games)
    assert End.TOKEN_LIMIT in {game.end for game in games}


def test_less_than_one_candidate_is_refused(actor: Actor) -> None:
    with pytest.raises(ValueError, match="best of 0"):
        _play(actor, Counts(), 0)


def test_an_environment_that_raises_is_named(actor: Actor) -> None:
    class Broken(Echo):
        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            raise KeyError("the shop is closed")

    with pytest.raises(EnvironmentFailure, match=r"seed 3, turn 1: KeyError"):
        play_best_of(2, Counts(), actor, Broken, [3], task="broken", sampling=SAMPLING, limits=LIMITS)


def test_many_games_are_judged_in_parts_and_alike(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    critic = CausalCritic.from_actor(actor)
    at_once = [_game_words(game) for game in _play(actor, critic, 3, parallel=7)]
    monkeypatch.setattr("archer.models.packing.TOKENS_AT_ONCE", 100)
    assert [_game_words(game) for game in _play(actor, critic, 3, parallel=7)] == at_once


def _game_words(game: Episode) -> list[list[int]]:
    return [turn.utterance.ids.tolist() for turn in game.turns]
