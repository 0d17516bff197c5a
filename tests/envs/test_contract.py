"""The contract every shipped environment signs."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from archer.envs import ENVS, make_factory
from archer.envs.base import ScriptedTask, check_reset, check_step, play_scripted, play_scripted_games

NAMES = pytest.mark.parametrize("name", sorted(ENVS))


def task(name: str) -> ScriptedTask:
    env = make_factory(name, {})()
    assert isinstance(env, ScriptedTask)
    return env


@NAMES
def test_horizon_truncates_and_never_terminates(name: str) -> None:
    env = make_factory(name, {"max_turns": 4})()
    check_reset(env.reset(seed=0))
    steps = [check_step(env.step("no idea")) for _ in range(4)]
    assert [truncated for *_, truncated, _ in steps] == [False, False, False, True]
    assert not any(terminated for _, _, terminated, _, _ in steps)
    with pytest.raises(RuntimeError, match="reset"):
        env.step("no idea")


@NAMES
def test_step_before_reset_is_an_error(name: str) -> None:
    with pytest.raises(RuntimeError, match="reset"):
        make_factory(name, {})().step("Is it alive?")


@NAMES
def test_equal_seeds_play_equal_games_and_seeds_differ(name: str) -> None:
    make = make_factory(name, {})
    player = task(name)
    first, again = (play_scripted(make(), player.demonstrator(3), seed=3) for _ in range(2))
    assert first == again
    assert len({play_scripted(make(), player.reference(0), seed=s).utterances for s in range(30)}) > 3


@NAMES
def test_an_environment_is_used_again_after_reset(name: str) -> None:
    env = task(name)
    first = play_scripted(env, env.reference(0), seed=5)
    play_scripted(env, env.reference(0), seed=6)
    assert play_scripted(env, env.reference(0), seed=5) == first


@NAMES
def test_pickles_in_the_middle_of_a_game(name: str) -> None:
    env = make_factory(name, {})()
    env.reset(seed=1)
    env.step("no idea")
    copy = pickle.loads(pickle.dumps(env))
    assert copy.step("Is it alive?") == env.step("Is it alive?")
    pickle.loads(pickle.dumps(make_factory(name, {})))().reset(seed=0)


@NAMES
@pytest.mark.parametrize("utterance", ["", " ", "?", "\n\0", "é" * 50, "Is it " * 10_000, "is it " + "a" * 100_000])
def test_any_string_is_an_utterance(name: str, utterance: str) -> None:
    env = make_factory(name, {})()
    env.reset(seed=0)
    _, reward, terminated, _, _ = check_step(env.step(utterance))
    assert reward <= 0 and not terminated


@NAMES
def test_the_reference_is_better_than_the_demonstrator(name: str) -> None:
    env = task(name)
    games = play_scripted_games(env, env.demonstrator, range(100))
    assert sum(game.return_ for game in games) / len(games) < env.reference_return() - 0.1


def test_environments_never_import_torch() -> None:
    code = "import sys, archer.envs, archer.envs.oracles.endpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
