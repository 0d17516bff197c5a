"""What is shown while a run goes on: lines in a pipe, a bar in a terminal, nothing when quiet."""

from __future__ import annotations

import pytest

from archer.algorithms.critic import start_critic, update_critic
from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.supervised import clone, start_actor
from archer.config import ActorConfig, ActorStartConfig, CriticConfig, CriticStartConfig, SupervisedConfig
from archer.models.agent import Agent
from archer.progress import Progress
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode
from tests.conftest import SAMPLING

METRICS = {"rollout/return_mean": -12.345, "critic/q_loss": 0.5, "rollout/tokens": 7.0}


def test_a_pipe_gets_plain_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.stage("training", 3, done=1)
    progress.advance(METRICS)  # too soon after the stage began for a line of its own
    progress.advance(METRICS)
    progress.message("[bold]not markup[/bold]")
    progress.close()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and "\x1b" not in err
    assert lines[0] == "training: 3 steps"
    assert lines[1].startswith("training 3/3  return -12.3") and "Q loss 0.5" in lines[1] and "tokens" not in lines[1]
    assert lines[2:] == ["[bold]not markup[/bold]"]


def test_an_evaluated_iteration_always_gets_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.stage("training", 100)
    progress.advance({**METRICS, "eval/return_mean": -9.0})
    assert "training 1/100" in capsys.readouterr().err.splitlines()[-1]


def _shown(metrics: list[dict[str, float]], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of a stage whose steps had these numbers."""
    with Progress() as progress:
        progress.stage("learning", len(metrics))
        for step in metrics:
            progress.advance(step)
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("method", HIGH_LEVELS)
def test_every_critic_shows_the_losses_that_it_has(
    agent: Agent, episodes: list[Episode], method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[dict[str, float]] = []
    config = CriticConfig(method=method, updates=1, batch_turns=4, demonstrations=0.0)  # type: ignore[arg-type]
    start_critic(agent, episodes, CriticStartConfig(epochs=1), config, seed=[0], report=heard.append)
    begins = _shown(heard, capsys)
    replay = Replay(100)
    replay.add(episodes)
    sampler = SiblingSampler(agent.actor, SAMPLING)
    goes_on = _shown([update_critic(agent, replay, config, sampler=sampler, seed=[0])], capsys)
    for line in (begins, goes_on):
        assert ("Q loss" in line, "V loss" in line) == (not HIGH_LEVELS[method].by_token, True)


def test_every_cloning_shows_its_loss(
    agent: Agent, episodes: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[dict[str, float]] = []
    clone(agent.actor, episodes, SupervisedConfig(epochs=1), seed=[0], report=heard.append)
    assert "  loss " in _shown(heard, capsys)
    heard.clear()
    start_actor(agent, episodes, ActorStartConfig(epochs=1), ActorConfig(), seed=[0], report=heard.append)
    assert "  loss " in _shown(heard, capsys)


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True)
    progress.stage("training", 1)
    progress.advance(METRICS)
    progress.message("done")
    progress.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("columns", ["40", "160"])
def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", columns)
    progress = Progress()
    progress.stage("supervised start", 2)
    progress.advance({"supervised/loss": 1.5})
    progress.stage("training", 1)  # a new stage ends the bar of the one before
    progress.advance(METRICS)
    progress.close()
    progress.close()
    err = capsys.readouterr().err
    assert "supervised start" in err and "1/2" in err and "loss 1.5" in err and "training" in err
    assert "return -12.3  Q loss 0.5" in err  # on a line of its own, never squeezed


def test_games_are_counted_with_an_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("archer.progress.time.monotonic", lambda: now[0])
    with Progress() as progress:
        progress.stage("playing", 40, unit="games")
        now[0] += 10
        progress.count(8)  # 8 in 10 s leave 32 for 40 s
        progress.count(0)
        now[0] += 1
        progress.count(2)  # too soon
        now[0] += 30
        progress.count(30)
        progress.stage("judging", 2, unit="games")
        progress.count(2)  # at once: not worth another line
    assert capsys.readouterr().err.splitlines() == [
        "playing: 40 games", "playing 8/40  40 s left", "playing 40/40  in 41 s", "judging: 2 games",
    ]  # fmt: skip


def test_a_stage_that_fails_leaves_no_bar_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with pytest.raises(RuntimeError), Progress() as progress:
        progress.stage("playing", 2, unit="games")
        raise RuntimeError("the environment failed")
    err = capsys.readouterr().err
    assert "0/2" in err and err.rindex("\x1b[?25h") > err.rindex("\x1b[?25l")  # the cursor is shown again
