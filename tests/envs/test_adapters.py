"""Other people's environments, really played."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from archer.envs import ADAPTERS, make_factory
from archer.envs.adapters.batched import ArcherBatched, LMRLGym
from archer.envs.adapters.common import clean, level_of
from archer.envs.adapters.gymnasium import Gymnasium
from archer.envs.adapters.interpreters import Jericho
from archer.envs.adapters.textarena import TextArena
from archer.envs.adapters.textworld import TextWorld, _generated
from archer.envs.adapters.zmachine import ZMachine
from archer.envs.base import Demonstrated, play_scripted
from archer.envs.checking import check
from archer.seeds import demonstration_seed, evaluation_seed, is_evaluation, training_seed


def errors(make: Any, games: int = 3) -> list[str]:
    return [f"{f.check}: {f.message}" for f in check(make, games) if f.level == "error"]


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[textarena\]'"):
        make_factory("textarena", {"id": "GuessTheNumber-v0"})
    assert "textarena" in ADAPTERS


# --- Gymnasium ------------------------------------------------------------------------------------------------------

LAKE = {"id": "FrozenLake-v1", "observe": "render", "actions": ["left", "down", "right", "up"]}


def test_named_actions_walk_over_the_frozen_lake() -> None:
    make = make_factory("gymnasium", {**LAKE, "options": {"is_slippery": False}})
    env = make()
    first, _ = env.reset(seed=0)
    assert first == "[S]FFF\nFHFH\nFFFH\nHFFG"
    heard = [env.step(word) for word in ("down", "Down", "right", "jump", "down", "right", "right")]
    assert heard[0][0] == "(Down)\nSFFF\n[F]HFH\nFFFH\nHFFG"
    assert heard[3][:2] == ("Possible actions: left, down, right, up.", -1.0)
    assert [(reward, over) for _, reward, over, *_ in heard[-2:]] == [(0.0, False), (1.0, True)]
    assert isinstance(env, Demonstrated) and errors(make) == []


def test_numbers_are_the_actions_where_none_are_named() -> None:
    env = Gymnasium("Blackjack-v1")
    first, _ = env.reset(seed=3)
    assert isinstance(first, str) and first.startswith("[")
    observation, _, over, _, _ = env.step("0")  # stick
    assert over and isinstance(observation, str)


def test_an_environment_that_cannot_be_spoken_to_is_refused() -> None:
    with pytest.raises(ValueError, match="only text and discrete"):
        Gymnasium("Pendulum-v1")
    with pytest.raises(ValueError, match="actions must name all 4"):
        Gymnasium("FrozenLake-v1", actions=["left"])
    with pytest.raises(ValueError, match="name an environment"):
        Gymnasium()


class OldGym:
    """The interface of four values, with text."""

    def __init__(self) -> None:
        self.action_space = type("Text", (), {})()

    def seed(self, seed: int | None) -> None:
        self._secret = random.Random(seed).choice(["red", "green"])

    def reset(self) -> str:
        self.turn = 0
        return "Which colour?"

    def step(self, said: str) -> tuple[str, int, bool, dict[str, Any]]:
        self.turn += 1
        won = said == self._secret
        late = not won and self.turn == 3
        return "Yes." if won else "No.", int(won), won or late, {"TimeLimit.truncated": late}

    def close(self) -> None:
        pass


def test_old_gym_with_four_values_tells_a_limit_from_an_end() -> None:
    env = Gymnasium(env=OldGym)
    assert env.reset(seed=1)[0] == "Which colour?"
    assert [env.step("blue")[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    env.reset(seed=1)
    wins = [env.step(word) for word in ("red", "green")]
    assert any(step[:4] == ("Yes.", 1.0, True, False) for step in wins)


# --- TextArena ------------------------------------------------------------------------------------------------------


def test_textarena_tells_what_is_new_and_pays_at_the_end() -> None:
    make = make_factory("textarena", {"id": "GuessTheNumber-v0"})
    env = make()
    first, _ = env.reset(seed=0)
    assert "between 1 and 20" in first and "[GAME]" not in first
    low, high = 1, 20
    for _ in range(10):
        guess = (low + high) // 2
        observation, reward, over, _, info = env.step(str(guess))
        if over:
            break
        assert len(observation) < 60 and reward == 0.0  # the answer alone
        low, high = (guess + 1, high) if "higher" in observation else (low, guess - 1)
    assert over and reward == 1.0 and info["success"]
    assert env.reset(seed=0)[0] == first  # nothing of the last game is left
    assert errors(make) == []


def test_textarena_leaves_the_global_generator_alone() -> None:
    env = TextArena("GuessTheNumber-v0")
    random.seed(5)
    wanted = random.Random(5).random()
    env.reset(seed=1)
    env.step("3")
    assert random.random() == wanted
    with pytest.raises(ValueError, match="unknown id"):
        TextArena("Nothing-v0")
    with pytest.raises(RuntimeError, match="reset"):
        TextArena("GuessTheNumber-v0").step("1")


# --- TextWorld and Z-code -------------------------------------------------------------------------------------------


def test_textworld_generates_games_that_can_be_won() -> None:
    env = TextWorld(games=1, rooms=1, objects=1, quest=1, max_turns=40)
    first, _ = env.reset(seed=0)
    assert "Possible: " in str(first) and "$$" not in str(first)
    games = [play_scripted(env, env.demonstrator(seed), seed=0) for seed in range(12)]
    won = [game for game in games if game.success]
    assert won and all(game.return_ == 1.0 and game.terminated for game in won)
    assert play_scripted(env, env.demonstrator(3), seed=0) == play_scripted(env, env.demonstrator(3), seed=0)
    env.reset(seed=0)
    assert env.step("dance\0 wildly")[1:4] == (0.0, False, False)


def _level(seed: int, levels: int, behind: int) -> int:
    return level_of(random.Random(seed), levels, behind, held_out=is_evaluation(seed))


def test_evaluations_have_levels_that_nobody_learns_from() -> None:
    learned = {_level(training_seed(run, game), 3, 2) for run in range(3) for game in range(50)}
    assert learned | {_level(demonstration_seed(0, game), 3, 2) for game in range(50)} == {0, 1, 2}
    assert {_level(evaluation_seed(game), 3, 2) for game in range(50)} == {3, 4}
    assert {_level(evaluation_seed(game), 3, 0) for game in range(50)} == {0, 1, 2}  # where there are no others


def test_textworld_generates_other_games_for_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    file = _generated(0, 1, 1, 1)

    def generated(number: int, *size: int) -> str:
        drawn.append(number)
        return file

    monkeypatch.setattr("archer.envs.adapters.textworld._generated", generated)
    env = TextWorld(games=4, held_out=3, rooms=1, objects=1, quest=1)
    for seeds, levels in ((range(0, 80, 2), {0, 1, 2, 3}), (range(1, 80, 2), {4, 5, 6})):
        drawn.clear()
        for seed in seeds:
            env.reset(seed=seed)
        assert set(drawn) == levels
    env.close()
    with pytest.raises(ValueError, match="held_out must be a whole number of at least 1, got 0"):
        TextWorld(held_out=0)


def test_z_code_is_played_in_pure_python_and_files_are_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    game = _generated(0, 1, 1, 1)
    env = ZMachine(game, shows=(), max_turns=3)
    first, _ = env.reset(seed=0)
    assert len(str(first)) > 20
    for word in ("save", "Restore", "quit"):
        answer, reward, over, truncated, _ = env.step(word)
        assert (answer, reward, over) == ("That is not possible.", 0.0, False)
    assert truncated and list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="reset"):
        env.step("look")
    assert not isinstance(env, Demonstrated)
    with pytest.raises(ValueError, match="jericho does not know"):
        ZMachine(game, interpreter="jericho")
    with pytest.raises(ValueError, match="interpreter='jericho' only"):
        ZMachine(game, shows=["commands"])
    with pytest.raises(ValueError, match="no game"):
        ZMachine("nowhere.z5")


def test_a_game_without_a_record_says_itself_what_it_pays_and_when_it_ends() -> None:
    env = ZMachine(_generated(0, 1, 1, 1), shows=["score"])
    assert str(env.reset(seed=0)[0]).endswith("Score: 0.")
    answer, reward, *ends, info = env.step("inventory")
    assert "a mop" in str(answer) and reward == 0.0 and ends == [False, False]
    answer, reward, *ends, info = env.step("drop mop")  # its one task
    assert reward == 1.0 and ends == [True, False] and info["score"] == 1 and "The End" in str(answer)
    with pytest.raises(RuntimeError, match="reset"):
        env.step("look")
    assert str(env.reset(seed=0)[0]).endswith("Score: 0.")


def test_a_game_that_tells_no_score_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    env = ZMachine(_generated(0, 1, 1, 1))
    monkeypatch.setattr(env._game, "peek", lambda command: "I don't know the word.")
    with pytest.raises(ValueError, match=r"does not answer `score`, so nothing in it would be rewarded"):
        env.reset(seed=0)


def test_a_limit_that_is_told_terminates_and_one_that_is_not_truncates() -> None:
    game = _generated(0, 1, 1, 1)
    told, untold = ZMachine(game, shows=["moves"], max_turns=2), ZMachine(game, shows=[], max_turns=2)
    assert str(told.reset(seed=0)[0]).endswith("\nMoves left: 2.") and untold.reset(seed=0)
    for word, left in (("look", 1), ("save", 0)):  # what is refused takes a move too
        answer, _, *ends, _ = told.step(word)
        assert str(answer).endswith(f"\nMoves left: {left}.") and ends == [left == 0, False]
        assert untold.step(word)[2:4] == (False, left == 0)


DETECTIVE = Path(__file__).parents[3] / "shared" / "data" / "detective.z5"


@pytest.mark.skipif(not DETECTIVE.exists(), reason="the game's file is not part of the project")
def test_detective_pays_for_new_places_and_350_in_all() -> None:
    env = ZMachine(str(DETECTIVE), interpreter="jericho", shows=["score"], max_turns=60)
    assert "Score: 10." in str(env.reset(seed=0)[0])  # what it begins with is nobody's merit
    steps = [env.step(command) for command in env._game._env.get_walkthrough()]
    assert sum(step[1] for step in steps) == 350.0
    assert [step[2] for step in steps] == [False] * 50 + [True] and steps[-1][4]["success"]
    assert "Score: 20." in str(next(step[0] for step in steps if step[1] == 10.0))


@pytest.mark.skipif(not DETECTIVE.exists(), reason="the game's file is not part of the project")
def test_possible_commands_are_found_whatever_was_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes.util

    import jericho

    monkeypatch.setattr(jericho, "util", ctypes.util)  # as jericho itself has it where ctypes.util came first
    monkeypatch.setattr(Jericho, "_found", {})
    env = ZMachine(str(DETECTIVE), interpreter="jericho", shows=["commands"], max_turns=60)
    assert "north" in str(env.reset(seed=0)[0])


def test_the_status_line_is_no_part_of_an_answer() -> None:
    assert clean("\n\n<< Closet >>\nA  gun.\n\n>        << Closet >>Score: 10Moves: 3") == "<< Closet >>\nA gun."


# --- Other training code --------------------------------------------------------------------------------------------


class Text(NamedTuple):
    text: str
    is_action: bool


class HistoryEnv:
    """LMRL-Gym's interface."""

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Text, ...]:
        self.secret = random.Random(seed).choice("ab")
        return (Text("Which letter?\n", False),)

    def step(self, history: tuple[Text, ...]) -> tuple[tuple[Text, ...], float, bool]:
        assert history[-1].is_action
        won = history[-1].text == f"{self.secret}\n"
        return (*history, Text("Yes.\n" if won else "No.\n", False)), 0.0 if won else -1.0, won

    def close(self) -> None:
        pass


class Place:
    """One game of the original's: it chooses a word by its number, or draws one by a generator that nobody seeds."""

    def __init__(self, words: list[str], turns: int) -> None:
        self.words, self.turns, self.left = words, turns, 0
        self.random = random.Random(None)

    def reset(self, idx: int | None = None) -> str:
        self.word = self.random.choice(self.words) if idx is None else self.words[idx]
        self.told, self.left = "Questions:\n", self.turns
        return self.told

    def step(self, said: str) -> tuple[str, int, bool] | None:
        if not self.left:
            return None
        won = said == self.word
        self.told += f"{said} {'Yes.' if won else 'No.'}\n"
        self.left = 0 if won else self.left - 1
        return self.told, 0 if won else -1, not self.left


class BatchedEnv:
    """The original's interface: whole conversations, and nothing of games that are over."""

    def __init__(self, bsize: int, turns: int, words: str = "dog") -> None:
        assert bsize == 1
        self.env_list = [Place(words.split(), turns) for _ in range(bsize)]

    def reset(self, idx: int | None = None) -> list[str]:
        return [place.reset(idx) for place in self.env_list]

    def step(self, said: list[str]) -> list[tuple[str, int, bool] | None]:
        return [place.step(words) for place, words in zip(self.env_list, said, strict=True)]


class BatchedShop:
    """As the original's web shop: it has no places before the first game, and the global generator draws."""

    def __init__(self, bsize: int) -> None:
        pass

    def reset(self, idx: list[int] | None = None) -> list[str]:
        assert idx is None
        return [f"Session {random.randrange(10**9)}."]


def test_histories_of_lmrl_gym_become_what_is_new() -> None:
    env = LMRLGym(HistoryEnv)
    assert env.reset(seed=0)[0] == "Which letter?"
    said = [env.step(word)[:3] for word in ("x", "a", "b")]
    assert said[0] == ("No.", -1.0, False)
    assert ("Yes.", 0.0, True) in said
    assert errors(lambda: LMRLGym(HistoryEnv)) == []


def test_conversations_of_the_original_become_what_is_new() -> None:
    env = ArcherBatched(BatchedEnv, {"turns": 3})
    assert env.reset(seed=0)[0] == "Questions:"
    assert env.step("Is it a cat?")[:3] == ("No.", -1.0, False)
    assert env.step("dog")[:3] == ("Yes.", 0.0, True)
    with pytest.raises(RuntimeError, match="reset"):
        env.step("dog")


WORDS = "ant bee cat dog eel"


def _word(env: ArcherBatched, seed: int) -> str:
    """The word of the game of a seed."""
    env.reset(seed=seed)
    return str(env._env.env_list[0].word)


@pytest.mark.parametrize("items", [5, None])
def test_the_seed_draws_the_word_of_the_original(items: int | None) -> None:
    """Whether by its number or by the environment's own generator: the same in every copy, and each comes up."""
    make = make_factory(f"{__name__}:ArcherBatched", {"env": f"{__name__}:BatchedEnv", "items": items,
                                                      "options": {"turns": 3, "words": WORDS}})  # fmt: skip
    seeds = [*range(40), evaluation_seed(3), training_seed(2, 7), demonstration_seed(0, 5)]
    outside = random.getstate()
    found = [_word(make(), seed) for seed in seeds]  # type: ignore[arg-type]
    again = make()
    assert [_word(again, seed) for seed in seeds] == found  # type: ignore[arg-type]
    assert random.getstate() == outside
    assert set(found[0:40:2]) == set(found[1:40:2]) == set(WORDS.split())
    assert errors(make) == []


def test_items_may_be_held_out_for_evaluations() -> None:
    env = ArcherBatched(BatchedEnv, {"turns": 3, "words": WORDS}, items=5, held_out=2)
    assert {_word(env, training_seed(0, game)) for game in range(40)} == {"ant", "bee", "cat"}
    assert {_word(env, evaluation_seed(game)) for game in range(40)} == {"dog", "eel"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"items": 0}, "items must be a whole number of at least 1"),
        ({"items": 5, "held_out": 5}, r"held_out must be less than items .*, got 5 of items=5"),
        ({"held_out": 1}, r"held_out must be less than items .*, got 1 of items=None"),
    ],
)
def test_items_that_cannot_be_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ArcherBatched(BatchedEnv, {"turns": 3}, **options)


def test_more_items_than_the_original_has_are_named() -> None:
    env = ArcherBatched(BatchedEnv, {"turns": 3, "words": WORDS}, items=100)
    with pytest.raises(
        ValueError, match=r"items=100, but the environment has none with number \d+; items is the length"
    ):
        for seed in range(10):
            env.reset(seed=seed)


def test_an_original_that_draws_by_the_global_generator_is_seeded_too() -> None:
    first = ArcherBatched(BatchedShop).reset(seed=4)
    random.random()
    assert ArcherBatched(BatchedShop).reset(seed=4) == first != ArcherBatched(BatchedShop).reset(seed=5)
