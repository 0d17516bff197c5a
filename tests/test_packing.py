"""Rows of a batch, and how many episodes go into one pass: known answers, and the same results in however many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.likelihood import as_said_by, policy_ratios
from archer.algorithms.target_values import KeptValues
from archer.models import packing
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch, collate
from archer.models.critic import values_in_parts
from archer.models.packing import in_parts, pack, stretch_lengths
from archer.models.passes import Passes
from archer.rollout.reconcile import reconciled
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode, Ids, Turn, Utterance
from tests.conftest import SAMPLING

LIMIT = 80
"""Tokens of a pass where there are to be many passes, over games of 18 to 82 tokens."""


def _said(tokens: int) -> Utterance:
    return Utterance(np.zeros(tokens, np.int32), np.zeros(tokens, np.float32), "")


def _game(states: Sequence[Ids], final: Ids, said: int = 1) -> Episode:
    turns = tuple(Turn(state, _said(said), "", 0.0) for state in states)
    return Episode(turns, End.TERMINATED, final, seed=0, task="x", policy_version=0)


def _of(tokens: int) -> Episode:
    """A game of so many tokens, all of them zeros, the last of which is said."""
    return _game([np.zeros(tokens - 1, np.int32)], np.zeros(tokens, np.int32))


def _edges(parts: Sequence[slice]) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in parts]


def test_rows_are_filled_longest_first() -> None:
    # Width 10: 10 | 7 + 3 | 6 + 4 | 2
    rows, starts = pack([4, 10, 3, 6, 7, 2])
    assert rows == [2, 0, 1, 2, 1, 3]
    assert starts == [6, 0, 7, 0, 0, 0]


def test_a_part_holds_what_fits_on_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TOKENS_AT_ONCE", 20)
    # 10 | 6 + 4 are 20; with 3 on a third row they would be 30
    # 7 | 3 + 2 are 14; with 25 they would be 50: two rows
    # 25 are too many, but cannot be cut; with 1 on another row they would be 50
    found = in_parts([_of(tokens) for tokens in (4, 6, 10, 3, 7, 2, 25, 1)])
    assert _edges(found) == [(0, 3), (3, 6), (6, 7), (7, 8)]
    assert in_parts([]) == []


def test_siblings_and_histories_that_are_written_anew_take_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TOKENS_AT_ONCE", 20)
    games = [_of(5) for _ in range(4)]
    assert _edges(in_parts(games)) == [(0, 4)]
    assert stretch_lengths(games[0], [[_said(2), _said(3)]]) == [10]
    assert _edges(in_parts(games, [[[_said(2), _said(3)]]] * 4)) == [(0, 2), (2, 4)]
    other, last = np.full(6, 1, np.int32), np.full(4, 2, np.int32)
    rewritten = _game([np.zeros(5, np.int32), other], last, said=2)
    assert stretch_lengths(rewritten) == [7, 8, 4]
    assert _edges(in_parts([rewritten, rewritten])) == [(0, 1), (1, 2)]  # 8 | 7 | 4: 24 each


def test_no_batch_is_larger_than_its_part_was_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TOKENS_AT_ONCE", 1000)
    games = [_of(int(tokens)) for tokens in np.random.default_rng(0).integers(2, 400, 200)]
    parts = in_parts(games)
    assert [number for part in parts for number in range(len(games))[part]] == list(range(len(games)))
    sizes = [collate(games[part]).ids.numel() for part in parts]
    assert max(sizes) <= 1000
    assert np.mean(sizes) > 700  # and not much smaller


def _kept(agent: Agent, episodes: list[Episode]) -> Tensor:
    """Target values that are kept, of the siblings that were drawn too."""
    kept = KeptValues(1)
    kept.prepare(agent, HIGH_LEVELS["retrace"], SiblingSampler(agent.actor, SAMPLING), [episodes], [0])
    found = kept(collate(episodes))
    return torch.cat([found.q, found.v, found.q_siblings[:, 0], found.ratio[:, None].expand(-1, 2), found.v_final])


def _values(agent: Agent, episodes: list[Episode]) -> Tensor:
    pairs = list(values_in_parts(agent.learned_critic, episodes))
    assert [id(episode) for part, _ in pairs for episode in part] == list(map(id, episodes))
    return torch.cat([values.q for _, values in pairs])


def _cloned(agent: Agent, episodes: list[Episode]) -> Tensor:
    shown = [episode.with_logprobs(episode.logprobs * np.nan) for episode in episodes]
    return torch.cat([torch.from_numpy(episode.logprobs) for episode in as_said_by(agent.actor, shown)])


def _reconciled(agent: Agent, episodes: list[Episode]) -> Tensor:
    return torch.cat([torch.from_numpy(episode.logprobs) for episode in reconciled(agent.actor, episodes)])


@pytest.mark.parametrize(
    "look",
    [_values, _kept, _cloned, _reconciled, lambda agent, episodes: torch.cat(policy_ratios(agent.actor, episodes))],
    ids=["values", "kept values", "demonstrations", "an engine elsewhere", "ratios"],
)
def test_whoever_reads_many_games_reads_few_tokens_at_once_and_finds_the_same(
    look: Callable[[Agent, list[Episode]], Tensor],
    agent: Agent,
    episodes: list[Episode],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[tuple[int, int]] = []
    usual = Passes.hidden

    def counted(passes: Passes, trunk: Any, batch: EpisodeBatch) -> Tensor:
        sizes.append((batch.ids.numel(), len(batch.episodes)))
        return usual(passes, trunk, batch)

    monkeypatch.setattr(Passes, "hidden", counted)
    at_once = look(agent, episodes)
    assert max(games for _, games in sizes) == len(episodes)  # all that there are
    sizes.clear()
    monkeypatch.setattr(packing, "TOKENS_AT_ONCE", LIMIT)
    in_many = look(agent, episodes)
    assert all(tokens <= LIMIT or games == 1 for tokens, games in sizes)
    assert len({games for _, games in sizes}) > 1  # not all are alone
    torch.testing.assert_close(in_many, at_once, atol=1e-4, rtol=1e-3)
