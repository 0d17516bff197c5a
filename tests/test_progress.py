"""What is shown while a run goes on: lines in a pipe, a bar in a terminal, nothing when quiet."""

from __future__ import annotations

import pytest

from archer.progress import Progress

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
