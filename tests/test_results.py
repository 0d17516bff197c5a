"""What the sample-efficiency benchmark keeps of its runs, and the page that it writes from that."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from archer.cli.commands import Train
from archer.cli.training import settings
from archer.comparison.curves import read_run
from archer.config import RunConfig
from archer.config.layers import to_yaml
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.twenty_questions.players import InformedQuestioner, guess
from archer.report.console import printable
from archer.storage.files import write_json, write_text
from archer.storage.shards import read_shard


def _run(path: Path, preset: str, seed: int, ends: float) -> Path:
    """A finished run of four iterations, from -10 to ``ends``."""
    path.mkdir(parents=True)
    config = RunConfig(preset=preset, seed=seed, iterations=4)
    write_text(path / "config.yaml", to_yaml(config))
    rows = [{"iteration": 0, "games": 0, "eval/return_mean": -10.0, "eval/return_ci95": 0.1, "time/start_s": 5.0}]
    for number in range(1, 5):
        rows.append(
            {
                "iteration": number,
                "games": 10 * number,
                "rollout/length": 2.0,
                "rollout/tokens": 30.0,
                "rollout/return_mean": -9.0,
                "eval/return_mean": -10 + (ends + 10) * number / 4,
                "time/iteration_s": 2.0,
                "actor/loss": 1.0,
            }
        )
    write_text(path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_json(
        path / "summary.json", {"task": "toy", "return_mean": ends, "reference_return": 0.0, "demonstrations": 7}
    )
    return path


def _script(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """A module of benchmarks/."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module(name)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> object:
    return _script(monkeypatch, "results")


def test_what_is_kept_is_what_a_comparison_reads(results: object, tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "archer", 3, -2.0)
    kept = tmp_path / "kept" / "toy" / "archer" / "seed-3"
    results.keep(run, kept)  # type: ignore[attr-defined]
    whole, part = read_run(run), read_run(kept)
    assert whole is not None and part is not None
    for name in ("games", "turns", "tokens", "seconds", "returns"):
        assert getattr(whole, name).tolist() == getattr(part, name).tolist()
    assert (whole.start, whole.final, whole.config) == (part.start, part.final, part.config)
    assert "actor/loss" not in (kept / "metrics.jsonl").read_text()
    assert sorted(path.name for path in kept.parent.iterdir()) == ["seed-3"]
    results.write_curves([tmp_path / "kept"], tmp_path / "results.json")  # type: ignore[attr-defined]
    curve = json.loads((tmp_path / "results.json").read_text())["curves"][0]
    assert (curve["task"], curve["method"], curve["seed"]) == ("toy", "archer", 3)
    assert curve["games"] == [0, 10, 20, 30, 40] and curve["return"] == [-10, -8, -6, -4, -2]
    assert curve["turns"] == [0, 20, 40, 60, 80]
    assert curve["final"] == -2.0 and curve["commit"] and curve["best_of"] == 0
    beside = json.loads((tmp_path / "results.json").read_text())["curves"][1]  # its games, in which the critic chose
    assert (beside["method"], beside["best_of"], beside["final"]) == ("archer as played", 10, None)
    assert beside["games"] == curve["games"] and beside["return"] == [-9, -9, -9, -9, -9]


def test_tables_have_five_levels_up_to_where_the_rival_ends(results: object, tmp_path: Path) -> None:
    for seed in (0, 1):
        _run(tmp_path / "ppo" / f"seed-{seed}", "ppo", seed, -5.0)
        _run(tmp_path / "archer" / f"seed-{seed}", "archer", seed, -1.0)
    text, found = results.online_tables([tmp_path], against="ppo")  # type: ignore[attr-defined]
    assert len(found.levels) == 5 and "| games to |" in text
    assert text.count("`archer`") == 3  # what it reached, its games to the levels, the ratios
    assert text.count("`archer as played`") == 3


def test_a_task_of_one_method_has_a_table_without_ratios(results: object, tmp_path: Path) -> None:
    for seed in (0, 1):
        _run(tmp_path / "toy" / "archer" / f"seed-{seed}", "archer", seed, -2.0 - seed)
    table, found = results.online_tables([tmp_path / "toy"], against="ppo")  # type: ignore[attr-defined]
    assert table.count("| `archer` |") == 1 and "games to" not in table and found.against is None


def test_conversations_of_one_task_at_every_stage(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = _script(monkeypatch, "conversations")
    out = tmp_path / "page.md"
    conversations.main((trained,), out)
    page = out.read_text(encoding="utf-8")
    stages = re.findall(r"^\*\*(.+)\*\*: return (-?[\d.]+)$", page, re.MULTILINE)
    first, last = (read_shard(trained / f"{name}.parquet")[0] for name in ("start", "final"))
    assert stages[0] == ("Supervised start", f"{first.return_:g}")
    assert stages[-1][1] == f"{last.return_:g}"
    rows = [line for line in page.splitlines() if line.count("|") == 6 and not line.startswith(("| heard", "|-"))]
    assert rows[0].split("|")[2].strip() == printable(first.turns[0].utterance.text)
    for row in rows:  # A = Q - V, each rounded
        q, v, advantage = (float(cell) for cell in row.split("|")[3:6])
        assert abs(q - v - advantage) < 0.16


def test_prices_of_utterances_add_up_to_what_games_are_short_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = _script(monkeypatch, "gap")
    env = TwentyQuestions("ten")
    first, other = env.objects[0], env.objects[3]
    best = [gap.prices(_said(env, target, []), target, env.objects) for target in env.objects]
    assert all(one.price == pytest.approx(0.0) for game in best for one in game)

    wasted = ["Is it nice?", guess(first), guess(first)]
    priced = gap.prices(_said(env, other, wasted), other, env.objects)
    assert [one.kind for one in priced[:3]] == [gap.NO_ANSWER, gap.GUESS, gap.AGAIN]
    assert priced[0].price == priced[2].price == 1.0  # a question that tells nothing costs itself

    games = {target: _said(env, target, wasted) for target in env.objects}
    lost = sum(one.price for target, game in games.items() for one in gap.prices(game, target, env.objects))
    short = sum(env.reference_return() + len(game) - 1 for game in games.values())  # -1 for all questions but the last
    assert lost == pytest.approx(short)


def _said(env: TwentyQuestions, target: str, wasted: list[str]) -> list[str]:
    """A game of the best player, who is made to say something else first."""
    observation, _ = env.reset(options={"target": target})
    player, said, over = InformedQuestioner(env.objects), list[str](), False
    while not over:
        best = player(observation)
        said.append(wasted[len(said)] if len(said) < len(wasted) else best)
        player._listener.asked = said[-1]
        observation, _, over, _, _ = env.step(said[-1])
    return said


def test_the_plan_is_of_methods_and_tasks_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out before days of training: unknown names, iterations that a task's page has no table for."""
    everything = _script(monkeypatch, "everything")
    page = (Path(__file__).parent.parent / "docs" / "results.md").read_text(encoding="utf-8")
    kinds = {"Online": "", "Begun": " begun", "Offline": " offline", "Ablation": " ablation"}
    for part in everything.PLAN:
        assert f"<!-- begin {part.env}{kinds[type(part).__name__]} -->" in page
        for method in getattr(part, "methods", ()):
            assert settings(Train(preset=method, env=part.env)).preset == method


def test_with_nothing_missing_everything_trains_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tables are made of what is kept; so is the one of methods that played nothing."""
    everything, efficiency = _script(monkeypatch, "everything"), _script(monkeypatch, "sample_efficiency")
    pages = tmp_path / "results.md"
    pages.write_text("<!-- begin toy offline -->\n<!-- end toy offline -->\n<!-- begin toy -->\n<!-- end toy -->\n")
    monkeypatch.setattr(efficiency, "PAGE", pages)
    for name in ("KEPT", "KEPT_BEGUN", "KEPT_OFFLINE"):
        monkeypatch.setattr(efficiency, name, tmp_path / name)
    _run(tmp_path / "KEPT" / "toy" / "archer" / "seed-0", "archer", 0, -2.0)
    write_text(tmp_path / "KEPT" / "toy" / "archer" / "seed-0" / "commit", "abc\n")
    _run(tmp_path / "KEPT" / "toy" / "archer-before" / "seed-0", "archer", 0, -5.0)
    write_text(tmp_path / "KEPT" / "toy" / "archer-before" / "seed-0" / "commit", "aaa\n")
    ends = tmp_path / "KEPT_OFFLINE" / "toy" / "bc" / "seed-0"
    ends.mkdir(parents=True)
    write_json(ends / "summary.json", {"return_mean": -7.25})
    monkeypatch.setattr(
        everything, "PLAN",
        (efficiency.Online("toy", seeds=1, methods=("archer",)), efficiency.Offline("toy", seeds=1, methods=("bc",))),
    )  # fmt: skip
    monkeypatch.setattr("subprocess.run", lambda *arguments, **more: pytest.fail("nothing is to be trained"))
    monkeypatch.setattr("sys.argv", ["everything.py"])
    everything.main()
    text = pages.read_text()
    assert "| `bc` | 1 | -7.25 | -7.25 |" in text and "| `archer` | 1 |" in text
    curves = json.loads((tmp_path / "results.json").read_text())["curves"]
    told = {(curve["method"], curve["final"]) for curve in curves}
    assert {("archer", -2.0), ("archer-before", -5.0)} <= told  # an earlier recipe's is in no table
    assert (tmp_path / "results" / "toy" / "compare.png").exists()
