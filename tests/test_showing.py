"""A run at a glance: in the terminal, in a notebook, as tables; finished, under way, and without a critic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import archer
from archer.cli import main
from archer.config import (
    ActorConfig,
    ActorStartConfig,
    CriticConfig,
    CriticStartConfig,
    DemonstrationsConfig,
    EvalConfig,
    ModelConfig,
    RolloutConfig,
    RunConfig,
    TinyConfig,
)
from archer.operations.showing import overview
from archer.report.console import sparkline
from tests.worlds import Guess


def _train(path: Path, critic: bool) -> Path:
    learners: dict[str, Any] = {
        "critic": CriticConfig(updates=2, batch_turns=16),
        "actor": ActorConfig(updates=2, batch_turns=16),
    }
    without: dict[str, Any] = learners if critic else {
        "critic": CriticConfig(method="none", demonstrations=0.0),
        "critic_start": CriticStartConfig(epochs=0),
        "actor_start": ActorStartConfig(epochs=0),
        "actor": ActorConfig(method="cloning", utterances="best", advantage="none", updates=1, demonstrations=0.0),
    }  # fmt: skip
    config = RunConfig(
        demonstrations=DemonstrationsConfig(games=40),
        rollout=RolloutConfig(games=8, best_of=0, utterance_tokens=6, parallel=8),
        eval=EvalConfig(every=1, games=4, final_games=6),
        iterations=2,
        model=ModelConfig(tiny=TinyConfig(layers=1, width=32, heads=2, vocabulary=300)),
        **without,
    )
    archer.train(config, path, env=Guess)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("show") / "run", critic=True)


def test_a_curve_is_one_line_of_text() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0, None, 5.0, float("nan")]) == "▄▄"
    assert sparkline([0.0, 0.0, 1.0, 1.0], width=2) == "▁█"
    assert sparkline([None]) == ""


def test_where_a_run_stands_and_its_best_and_worst_games_rated(run: Path) -> None:
    found = overview(run, 2)
    assert found.facts["iterations"] == "2 of 2" and found.facts["games played"] == 16
    assert "best known return" not in found.facts  # Guess does not tell
    assert len(found.curves["return, games to learn from"]) == 2
    (best, rated), (worst, _) = found.games
    assert best.return_ >= worst.return_
    assert [utterance for utterance, _, _ in rated] == [turn.utterance.text for turn in best.turns]


def test_the_command_prints_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(run), "--games", "1"])
    printed = capsys.readouterr().out
    assert "return, evaluations" in printed and "advantage" in printed and "2 of 2" in printed
    main(["show", str(run), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["games played"] == 16 and "return, evaluations" in told["metrics"]
    with pytest.raises(SystemExit):
        main(["show", str(run), "--games", "-1"])
    with pytest.raises(SystemExit):
        main(["show", str(run.parent)])


def test_a_run_without_a_critic_shows_its_games_unrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _train(tmp_path / "run", critic=False)
    assert [rated for _, rated in overview(path, 3).games] == [(), (), ()]
    main(["show", str(path)])
    assert "A game" in capsys.readouterr().out


def test_a_run_that_has_just_begun_is_shown_as_far_as_it_is(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    found = overview(tmp_path, 2)
    assert found.facts["games played"] == 0 and found.games == [] and found.curves == {}


def test_a_loaded_run_gives_tables_and_pictures(run: Path) -> None:
    loaded = archer.load(run)
    table = loaded.episodes()
    assert table.num_rows == 16 and {"return", "turns", "seed"} <= set(table.column_names)
    assert loaded.episodes(iterations=[2]).num_rows == 8
    assert loaded.episodes(iterations=[9]).num_rows == 0
    assert loaded.plot().axes[0].get_ylabel() == "return per game"
    html = loaded._repr_html_()
    assert "<table>" in html and "archer" in html
