"""The checks that stand between the library and other people's environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from archer.envs.base import ContractError, check_reset, check_step, play_scripted

MESSAGE = {"role": "user", "content": "hi"}


class Counter:
    """Says the turn; ends by itself at the third."""

    def reset(self, *, seed: int | None = None, options: Mapping[str, object] | None = None) -> tuple[Any, Any]:
        self.turn = 0
        return "0", {}

    def step(self, utterance: str) -> tuple[Any, Any, Any, Any, Any]:
        self.turn += 1
        return str(self.turn), 0.5, self.turn == 3, False, {"success": self.turn == 3}


@pytest.mark.parametrize("result", [("text", {}), ([MESSAGE], {"a": 1})])
def test_good_resets(result: object) -> None:
    assert check_reset(result) == result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("text", "must return .observation, info., got str"),
        (("text",), "got a tuple of 1"),
        (("text", {}, {}), "got a tuple of 3"),
        ((None, {}), "observation of type NoneType"),
        ((["text"], {}), "observation of type list"),
        (([{"role": "user"}], {}), "observation of type list"),
        (("text", None), "info of type NoneType"),
    ],
)
def test_bad_resets(result: object, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_reset(result)


def test_numbers_of_numpy_are_made_plain() -> None:
    step = check_step(("text", np.float32(1.5), np.bool_(True), False, {}))
    assert step == ("text", 1.5, True, False, {})
    assert type(step[1]) is float and type(step[2]) is bool


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "got NoneType"),
        (("text", 1.0, False, {}), "got a tuple of 4"),
        ((3, 1.0, False, False, {}), "observation of type int"),
        (("text", None, False, False, {}), "reward None"),
        (("text", "much", False, False, {}), "reward 'much'"),
        (("text", float("nan"), False, False, {}), "finite"),
        (("text", float("inf"), False, False, {}), "finite"),
        (("text", 1.0, None, False, {}), "terminated = None"),
        (("text", 1.0, False, "no", {}), "truncated = 'no'"),
        (("text", 1.0, False, False, []), "info of type list"),
    ],
)
def test_bad_steps(result: object, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_step(result)


def test_a_scripted_game_is_recorded_turn_by_turn() -> None:
    game = play_scripted(Counter(), lambda heard: f"I heard {heard}", seed=0)
    assert game.observations == ("0", "1", "2")
    assert game.utterances == ("I heard 0", "I heard 1", "I heard 2")
    assert game.final_observation == "3" and game.terminated and game.success
    assert game.return_ == 1.5


def test_a_scripted_game_stops_at_its_turn_limit() -> None:
    game = play_scripted(Counter(), lambda heard: "", seed=0, max_turns=2)
    assert len(game.utterances) == 2 and not game.terminated


def test_a_player_must_speak() -> None:
    with pytest.raises(ContractError, match="player must return a string"):
        play_scripted(Counter(), lambda heard: None, seed=0)  # type: ignore[arg-type, return-value]
