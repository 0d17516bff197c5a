"""How a name, a path, a class or a factory becomes an environment, and what is said when it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archer.envs import make_factory, task_name
from archer.envs.twenty_questions.env import TwentyQuestions

MODULE = """
class Room:
    def __init__(self, size, doors=2):
        self.size, self.doors = size, doors
    def reset(self, *, seed=None, options=None):
        return "room", {}
    def step(self, utterance):
        return "room", 0.0, True, False, {}
def with_anything(**options):
    return Room(1)
class Mute:
    def reset(self, *, seed=None, options=None):
        return "room", {}
class Unseeded(Mute):
    def reset(self):
        return "room", {}
    def step(self, utterance):
        return "room", 0.0, True, False, {}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_rooms.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_registered_name_with_options() -> None:
    env = make_factory("twenty-questions-10", {"max_turns": 3})()
    assert isinstance(env, TwentyQuestions) and len(env.objects) == 10 and env.max_turns == 3


def test_every_call_makes_a_copy_of_its_own() -> None:
    make = make_factory(TwentyQuestions, {"objects": ["dog", "cat"]})
    assert make() is not make()


def test_names_of_tasks() -> None:
    assert task_name("twenty-questions") == "twenty-questions"
    assert task_name(TwentyQuestions) == "TwentyQuestions"


@pytest.mark.usefixtures("here")
def test_a_class_beside_the_user() -> None:
    env: Any = make_factory("some_rooms:Room", {"size": 3})()
    assert (env.size, env.doors) == (3, 2)
    make_factory("some_rooms:with_anything", {"whatever": 1})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("chess", {}, r"unknown 'chess'\. Known: guess-number"),
        ("twenty-question", {}, "did you mean 'twenty-questions'.*Known: .*twenty-questions, twenty-questions-10"),
        ("nowhere_at_all:Room", {}, "cannot import module 'nowhere_at_all'"),
        ("some_rooms:Rooom", {}, "no 'Rooom'; did you mean 'Room'"),
        ("some_rooms:", {}, "expected 'package.module:Name'"),
        ("some_rooms:Room", {}, "needs size"),
        ("some_rooms:Room", {"size": 1, "door": 2}, "no option 'door'; did you mean 'doors'.* It has: size, doors"),
        ("some_rooms:Mute", {}, "Mute without step"),
        ("some_rooms:Unseeded", {}, "keyword seed"),
        ("some_rooms:MODULE", {}, "no 'MODULE'"),
        ("twenty-questions", {"max_turns": 0}, "max_turns must be a whole number of at least 1, got 0"),
        ("twenty-questions", {"max_turns": 2.5}, "max_turns"),
        ("twenty-questions", {"objects": "many"}, "objects must be 'all', 'ten' or a list"),
        ("twenty-questions", {"objects": ["dog", "unicorn"]}, "'unicorn' not among the 157"),
        ("twenty-questions", {"objects": []}, "at least one"),
        ("twenty-questions", {"objects": ["dog", "dog"]}, "twice"),
        ("twenty-questions", {"win_rule": "any"}, "win_rule must be one of 'names', 'last-word'"),
        ("twenty-questions", {"oracle": "nowhere"}, "oracle: expected 'package.module:Name'"),
        ("twenty-questions", {"oracle": 7}, "oracle must have a method answer"),
    ],
)
def test_mistakes_are_explained(target: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_factory(target, options)


def test_an_instance_is_no_factory() -> None:
    with pytest.raises(ValueError, match="not an instance"):
        make_factory(TwentyQuestions(), {})  # type: ignore[arg-type]


def test_an_oracle_by_path() -> None:
    env = make_factory("twenty-questions", {"oracle": "archer.envs.twenty_questions.oracle:TableOracle"})()
    env.reset(options={"target": "dog"})
    assert env.step("Is it alive?")[0] == "Yes."
