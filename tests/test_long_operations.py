"""Whatever takes long says how far it is, on standard error, and nothing of it with --json."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from archer.models.actor import Actor
from archer.rollout.best_of import play_best_of
from archer.rollout.play import Limits, play
from archer.view.export import export
from tests.conftest import LIMITS, SAMPLING, Command
from tests.critics import Counts
from tests.worlds import Echo, Misbehaving


def test_every_game_that_is_over_is_counted(actor: Actor) -> None:
    heard: list[int] = []
    play(actor, Echo, range(7), task="echo", sampling=SAMPLING, limits=LIMITS, report=heard.append)
    assert heard == [1] * 7
    chosen: list[int] = []
    play_best_of(
        2, Counts(), actor, Echo, range(7), task="echo", sampling=SAMPLING, limits=LIMITS, report=chosen.append
    )
    assert sum(chosen) == 7 and min(chosen) >= 0


@pytest.mark.parametrize("fault", ["raise", "reset"])
def test_games_that_fail_count_as_over_too(actor: Actor, fault: str) -> None:
    failing = partial(Misbehaving, fault)  # in the games of even seeds
    limits = Limits(max_turns=50, max_tokens=160, parallel=4, max_failures=0.5)
    heard: list[int] = []
    games = play(actor, failing, range(20), task="echo", sampling=SAMPLING, limits=limits, report=heard.append)
    assert len(games) == 10 and sum(heard) == 20
    chosen: list[int] = []
    games = play_best_of(
        2, Counts(), actor, failing, range(20), task="echo", sampling=SAMPLING, limits=limits, report=chosen.append
    )
    assert len(games) == 10 and sum(chosen) == 20


def test_commands_say_how_far_they_are(trained: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "games.jsonl"
    for arguments, told in (
        (["collect", str(trained), "--out", str(out), "--episodes", "40"], ["playing: 40 games"]),
        (["collect", "demonstrator", "--env", "guess-number", "--out", str(out)], ["playing: 1000 games"]),
        (
            ["evaluate", str(trained), "--episodes", "6", "--best-of", "2"],
            ["playing: 6 games", "playing, the best of 2: 6 games"],
        ),
        (["doctor", str(trained), "--episodes", "20"], ["playing: 20 games", "judging: 20 games"]),
        (["check-env", "guess-number"], ["playing: 20 games"]),
    ):
        out.unlink(missing_ok=True)
        done = command(*arguments)
        assert done.code == 0, done.err
        assert [line for line in done.err.splitlines() if line.endswith("games")] == told
        assert "playing:" not in done.out
        out.unlink(missing_ok=True)
        quiet = command(*arguments, "--json")
        assert quiet.err == "" and json.loads(quiet.out)
    command("collect", str(trained), "--out", str(out), "--episodes", "5")
    assert "judging: 5 conversations" in command("score", str(trained), str(out)).err
    assert command("score", str(trained), str(out), "--json").err == ""
    exported = command("view", str(trained), "--export", str(tmp_path / "out.html"), "--games", "2")
    assert f"games of {trained}: " in exported.err and exported.out == f"{tmp_path / 'out.html'}\n"


def test_an_export_from_a_program_is_silent(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export([trained], tmp_path / "out.html", 1)
    assert capsys.readouterr() == ("", "")
