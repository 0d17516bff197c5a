"""check-env finds each mistake it knows, and nothing in what is right."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np
import pytest
from tests.worlds import Echo

from archer.cli import main
from archer.envs import ENVS, make_factory
from archer.envs.base import ContractError
from archer.envs.checking import check
from archer.envs.hosting import play_hosted
from archer.evaluation import reference_return


class Right(Echo):
    """Nothing to object to."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, object]]:
        self.over = False
        return super().reset(seed=seed)

    def step(self, utterance: str) -> Any:
        if self.over:
            raise RuntimeError("reset first")
        answer = super().step(utterance)
        self.over = answer[2] or answer[3]
        return answer

    def demonstrator(self, seed: int) -> Any:
        return lambda observation: "hello"


def found(make: Any) -> dict[str, str]:
    return {finding.check: f"{finding.level}: {finding.message}" for finding in check(make, 6, timeout=1.0)}


def wrong(make: Any) -> set[str]:
    return {check for check, told in found(make).items() if not told.startswith("ok")}


def test_nothing_is_wrong_with_what_is_right() -> None:
    assert wrong(Right) == set()
    assert len(found(Right)) == 14


class NotANumber(Right):
    def step(self, utterance: str) -> Any:
        return "x", float("nan"), False, False, {}


class Endless(Right):
    def step(self, utterance: str) -> Any:
        return "x", 1.0, False, False, {}


class Touchy(Right):
    def step(self, utterance: str) -> Any:
        if not utterance:
            raise IndexError("empty")
        return super().step(utterance)


class Unseeded(Right):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return f"{random.random()}", {}


class Alike(Right):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=4)


class Remembers(Right):
    games = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.games += 1
        super().reset(seed=seed)
        return f"Game {self.games}.", {}


class Poor(Right):
    def step(self, utterance: str) -> Any:
        answer = super().step(utterance)
        return (answer[0], 0.0, *answer[2:])


class Coloured(Right):
    def step(self, utterance: str) -> Any:
        return ("\x1b[31mred", *super().step(utterance)[1:])


class Repeating(Right):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.told = super().reset(seed=(seed or 0) + 4)[0]
        return self.told, {}

    def step(self, utterance: str) -> Any:
        answer = super().step(utterance)
        self.told += f"\n{answer[0]}"
        return (self.told, *answer[1:])


class Slow(Right):
    def step(self, utterance: str) -> Any:
        time.sleep(0.01)
        return super().step(utterance)


class Hanging(Right):
    def step(self, utterance: str) -> Any:
        time.sleep(1.5)
        return super().step(utterance)


class Unasked(Right):
    def demonstrator(self) -> Any:  # type: ignore[override]
        return super().demonstrator(0)


class Mute(Right):
    def demonstrator(self, seed: int) -> Any:
        return "hello"


class Verbose(Right):
    def demonstrator(self, seed: int) -> Any:
        return lambda observation: "hello\nthere"


class Boastful(Right):
    def reference_return(self) -> Any:
        return "three"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (Unasked, {"contract"}),
        (Mute, {"contract"}),
        (Verbose, {"lines"}),
        (Boastful, {"contract"}),
        (NotANumber, {"contract"}),
        (Endless, {"end", "after the end", "rewards", "variety"}),
        (Touchy, {"any text"}),
        (Unseeded, {"seeding", "reuse"}),
        (Alike, {"variety", "rewards"}),
        (Remembers, {"reuse"}),
        (Poor, {"rewards"}),
        (Coloured, {"text"}),
        (Repeating, {"history"}),
        (Slow, {"speed"}),
        (Hanging, {"failure"}),
        (lambda: Right(), {"processes"}),
        (Echo, {"after the end", "players"}),
    ],
)
def test_each_mistake_is_found(make: Any, what: set[str]) -> None:
    assert wrong(make) == what
    assert all(finding.mend for finding in check(make, 2, timeout=1.0) if finding.level != "ok")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Unasked, r"demonstrator\(seed\) must take a seed: too many positional arguments"),
        (Mute, r"demonstrator\(seed\) must return a player, a function .* got str"),
        (Boastful, r"reference_return\(\) must return a finite number, got 'three'"),
    ],
)
def test_a_run_says_the_same(make: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        reference_return(make)
        play_hosted(make, make(), make().demonstrator, [0], lambda _: None)


@pytest.mark.parametrize("name", sorted(ENVS))
def test_nothing_is_wrong_with_what_is_shipped(name: str) -> None:
    make = make_factory(name, {})
    assert [f for f in check(make, 10) if f.level != "ok"] == []


def test_the_command_prints_what_to_do_and_fails_where_there_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check-env", "guess-number", "--set", "highest=5", "--games", "5", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [finding["level"] for finding in told] == ["ok"] * 14
    with pytest.raises(SystemExit) as stopped:
        main(["check-env", "tests.envs.test_checking:Touchy", "--games", "3"])
    assert stopped.value.code == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "IndexError: empty" in printed.replace("│", "") or "IndexError" in printed
    with pytest.raises(SystemExit) as stopped:
        main(["check-env", "tests.envs.test_checking:Touchy", "--games", "0"])
    assert stopped.value.code == 2


def test_the_best_known_return_may_be_any_number() -> None:
    class Known(Right):
        def reference_return(self) -> Any:
            return np.float32(0.5)

    assert reference_return(Known) == 0.5
