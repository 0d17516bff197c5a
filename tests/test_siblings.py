"""What the siblings' sampler takes room for: as much as a call needs, and no more than is bounded."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from archer.models.actor import Actor
from archer.rollout import siblings
from archer.rollout.cache import SlotCache
from archer.rollout.engine import Engine
from archer.rollout.siblings import SiblingSampler, at_once, room_for
from archer.types import Episode, Ids
from tests.conftest import SAMPLING


def _state(tokens: int, *, of: int = 0) -> Ids:
    """A state of so many tokens, of a conversation of its own for every ``of``."""
    return np.full(tokens, of, np.int32)


def test_states_go_together_as_far_as_their_conversations_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "SLOTS", 20)
    # Two conversations of up to 9 tokens: 18. A third would make 27. Then one that is too long: 25.
    states = [_state(3), _state(6), _state(9), _state(4, of=1), _state(8, of=1), _state(2, of=2), _state(25, of=3)]
    parts = at_once([*states, _state(1, of=4)], 1, longest=2)
    assert [(part.start, part.stop) for part in parts] == [(0, 5), (5, 6), (6, 7), (7, 8)]
    assert at_once([], 1, longest=2) == []


def test_utterances_go_together_as_far_as_they_are_few_and_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(count: int, longest: int) -> list[int]:
        return [part.stop - part.start for part in at_once([_state(2)] * 8, count, longest)]

    monkeypatch.setattr(siblings, "ROWS", 6)
    monkeypatch.setattr(siblings, "SLOTS", 20)
    assert sizes(1, longest=2) == [6, 2]  # 6 utterances
    assert sizes(2, longest=2) == [3, 3, 2]
    assert sizes(1, longest=5) == [4, 4]  # 4 · 5 tokens
    assert sizes(9, longest=50) == [1] * 8  # cannot be less


def test_a_cache_grows_while_it_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "SLOTS", 100)
    assert room_for(4, 10, (0, 0)) == (4, 10)
    assert room_for(2, 10, (4, 20)) == (4, 20)  # has room
    assert room_for(2, 25, (4, 20)) == (4, 25)  # for both
    assert room_for(2, 26, (4, 20)) == (2, 26)  # 4 · 26 would be too many
    assert room_for(1, 300, (4, 20)) == (1, 300)  # what has to be


def test_many_short_states_and_a_long_one_are_not_multiplied(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[tuple[int, int]] = []
    caches: list[weakref.ref[SlotCache]] = []

    class Counted(Engine):
        def __init__(self, of: Actor, rows: int, tokens: int, *rest: Any) -> None:
            super().__init__(of, rows, tokens, *rest)
            rooms.append((rows, tokens))
            caches.append(weakref.ref(self.cache))

    monkeypatch.setattr(siblings, "SLOTS", 120)
    monkeypatch.setattr(siblings, "Engine", Counted)
    sampler = SiblingSampler(actor, SAMPLING)
    assert SAMPLING.max_tokens == 6

    def sample(states: list[Ids]) -> list[tuple[int, int]]:
        rooms.clear()
        sampler.at(states, 1, [[number] for number in range(len(states))])
        gc.collect()
        return rooms

    assert sample([_state(3, of=number) for number in range(40)]) == [(20, 3), (20, 6)]  # twice
    assert sample([_state(50)]) == [(1, 50)]
    assert [cache() is None for cache in caches] == [True, False, False]
    assert sample([_state(130)]) == [(1, 130)]
    assert [cache() is None for cache in caches] == [True, False, True, True]  # too large to be kept
    assert sample([_state(3)]) == [(1, 3)]


def test_what_is_drawn_does_not_depend_on_what_goes_together(
    actor: Actor, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> list[tuple[bytes, bytes]]:
        found = SiblingSampler(actor, SAMPLING).sample(episodes, 3, [7])
        return [(u.ids.tobytes(), u.logprobs.tobytes()) for game in found for group in game for u in group]

    calls: list[int] = []
    usual = SiblingSampler._decode

    def decode(sampler: SiblingSampler, states: Any, *rest: Any) -> Any:
        calls.append(len(states))
        return usual(sampler, states, *rest)

    monkeypatch.setattr(SiblingSampler, "_decode", decode)
    together = drawn()
    assert len(calls) == 1
    monkeypatch.setattr(siblings, "SLOTS", 100)
    assert drawn() == together
    assert len(calls) > 4
