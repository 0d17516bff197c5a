"""Comparing runs: statistics by hand, grouping, what was never reached, and runs that cannot be compared."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archer.comparison.compare import compare
from archer.comparison.intervals import Bounds, Censored, estimate, median_interval, median_ratio, ratio_interval
from archer.comparison.methods import smoothed
from archer.config import RunConfig
from archer.config.layers import Layer, build, to_yaml
from archer.report.comparison import write_comparison
from archer.report.comparison_tables import as_json


def _run(
    folder: Path,
    returns: Sequence[float],
    *,
    preset: str = "archer",
    seed: int = 0,
    games: int = 100,
    tokens: float = 1000.0,
    length: float = 5.0,
    seconds: float = 2.0,
    start: float = -20.0,
    final: float | None = -1.0,
    **changes: Any,
) -> Path:
    """A run folder with these returns of its iterations, as training leaves it behind."""
    folder.mkdir(parents=True)
    common = {"preset": preset, "seed": seed, "demonstrations": {"games": 50}, "rollout": {"best_of": 0}}
    config = build(RunConfig(), [Layer(common, "test"), Layer(changes, "test")])
    (folder / "config.yaml").write_text(to_yaml(config))
    rows: list[dict[str, Any]] = [{"iteration": 0, "eval/return_mean": start, "games": 0.0}]
    rows += [
        {
            "iteration": n, "rollout/return_mean": value, "games": float(n * games), "rollout/tokens": tokens,
            "rollout/length": length, "time/iteration_s": seconds,
        }
        for n, value in enumerate(returns, start=1)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if final is not None:
        summary = {"task": config.env.name, "return_mean": final, "reference_return": 0.0, "demonstrations": 50}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    # of five, one at either end: (2 + 3 + 7) / 3
    assert estimate([100.0, 2.0, 3.0, 7.0, -50.0]).value == pytest.approx(4.0)
    assert estimate([1.0, 2.0, 6.0]).value == pytest.approx(3.0)  # under four seeds the plain mean
    alone = estimate([5.0])
    assert (alone.value, alone.low, alone.high, alone.seeds) == (5.0, None, None, 1)


def test_intervals_hold_the_value_and_are_the_same_each_time() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 10.0]
    found = estimate(values)
    assert found.low is not None and found.high is not None and 1.0 <= found.low < found.value < found.high <= 10.0
    assert estimate(values) == found


def test_points_are_of_the_iterations_that_were_evaluated(tmp_path: Path) -> None:
    """Where the critic chooses in training games, the curve is of evaluations, each with its own iteration."""
    run = _run(tmp_path / "run", [-1.0] * 7, rollout={"best_of": 5}, iterations=9, final=None)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[3] |= {"eval/return_mean": -8.0}
    rows[6] |= {"eval/return_mean": -4.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare([tmp_path], smooth=1)
    write_comparison(found, tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open() as file:
        told = [(row["iteration"], row["games"], row["return"]) for row in csv.DictReader(file)]
    assert told == [("3", "300.0", "-8.0"), ("6", "600.0", "-4.0")]
    assert as_json(found)["methods"]["archer"]["iterations"] == [7]
    assert any("7 of 9 iterations" in note for note in found.notes)


def test_what_was_never_reached_bounds_the_median_from_below() -> None:
    two_of_three = Censored(np.array([10.0, 20.0, 50.0]), np.array([10.0, 20.0, math.inf]))
    assert two_of_three.median() == Bounds(20.0, 20.0) and two_of_three.reached == 2
    one_of_three = Censored(np.array([10.0, 50.0, 50.0]), np.array([10.0, math.inf, math.inf]))
    assert one_of_three.median() == Bounds(50.0, math.inf)  # more than 50, no one knows how much
    interval = median_interval(one_of_three)
    assert interval is not None and interval[0] == Bounds(10.0, 10.0) and interval[1] == Bounds(50.0, math.inf)


def test_ratios_of_medians_and_their_bounds() -> None:
    slow = Censored(np.array([30.0, 40.0, 50.0]), np.array([30.0, 40.0, 50.0]))
    fast = Censored(np.array([10.0, 10.0, 10.0]), np.array([10.0, 10.0, 10.0]))
    assert median_ratio(slow, fast) == Bounds(4.0, 4.0)
    assert ratio_interval(slow, fast) == (3.0, 5.0)  # medians of resamples are 30, 40 or 50
    never = Censored(np.array([60.0, 60.0]), np.array([math.inf, math.inf]))
    assert median_ratio(never, fast) == Bounds(6.0, math.inf)
    assert ratio_interval(never, fast) == (6.0, math.inf)


def test_means_are_centred_and_shorter_at_the_ends() -> None:
    rising, each = np.array([-10.0, -8.0, -6.0, -4.0, -2.0, 0.0]), np.arange(1, 7)
    # a straight line stays where it is, but at the end, where nothing follows: (-4 - 2 + 0) / 3, (-6 - 4 - 2 + 0) / 4
    assert smoothed(rising, each, 5).tolist() == [-10.0, -8.0, -6.0, -4.0, -3.0, -2.0]
    assert smoothed(np.array([1.0, 4.0, 1.0, 1.0]), each[:4], 3).tolist() == [1.0, 2.0, 2.0, 1.0]
    assert smoothed(rising, each, 1).tolist() == rising.tolist() and smoothed(rising[:1], each[:1], 5).tolist() == [-10]


def test_a_mean_is_of_iterations_however_seldom_they_were_measured() -> None:
    bent, fourth = np.array([0.0, 4.0, 4.0, 0.0]), np.array([4, 8, 12, 16])
    assert smoothed(bent, fourth, 5).tolist() == bent.tolist()  # two iterations on either side hold no other evaluation
    # nine iterations: four on either side, 4 to 12 and 8 to 16; in the end 12 and 16
    assert smoothed(bent, fourth, 9).tolist() == pytest.approx([0.0, 8 / 3, 8 / 3, 2.0])


def test_games_to_a_level_follow_the_centred_mean(tmp_path: Path) -> None:
    _run(tmp_path / "a", [-10.0, -8.0, -3.0, -1.0])
    plain = compare([tmp_path], smooth=1, levels=[-8.0, -3.0, 0.0])
    centred = compare([tmp_path], smooth=3, levels=[-8.0, -3.0])
    assert {level: row["archer"].median.low for level, row in plain.levels.items()} == {-8.0: 200, -3.0: 300, 0.0: 400}
    assert plain.levels[0.0]["archer"].reached == 0
    # means: -10, -21/3 = -7, -12/3 = -4, -4/2 = -2
    assert {level: row["archer"].median.low for level, row in centred.levels.items()} == {-8.0: 200, -3.0: 400}


def test_where_the_critic_chose_what_was_played_evaluations_are_the_curve(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", [-1.0, -1.0, -1.0], rollout={"best_of": 5}, start=-9.0)
    with pytest.raises(
        ValueError, match=r"rollout\.best_of=5 and the agent is measured with eval\.best_of=0.*eval\.every=1"
    ):
        compare([tmp_path])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows.insert(1, {"iteration": 0, "eval/return_mean": -7.0, "games": 0.0, "time/start_s": 10.0})
    rows[2]["eval/return_mean"], rows[4]["eval/return_mean"] = -6.0, -4.0
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (method,) = compare([tmp_path], smooth=1).methods
    repeat = method.repeats[0].run
    assert (repeat.start, repeat.returns.tolist(), repeat.games.tolist()) == (-7.0, [-6.0, -4.0], [100, 300])
    assert repeat.turns.tolist() == [500, 1500]  # 100 games of 5 turns an iteration
    assert repeat.tokens.tolist() == [1000, 3000] and repeat.seconds.tolist() == [12, 16]  # 10 s and 2 s an iteration


def test_evaluations_of_every_iteration_are_the_curve_whoever_played(tmp_path: Path) -> None:
    """Training games may be known by heart; where only some iterations were evaluated, all training games tell more."""
    run = _run(tmp_path / "a", [-1.0, -1.0, -1.0])
    _run(tmp_path / "b", [-2.0, -2.0, -2.0], preset="ppo")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row, measured in zip(rows[1:], [-6.0, -5.0], strict=False):
        row["eval/return_mean"] = measured
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare([tmp_path], smooth=1)
    assert [method.repeats[0].run.returns.tolist() for method in found.methods] == [[-1.0] * 3, [-2.0] * 3]
    assert not any("held-out" in note for note in found.notes)

    rows[3]["eval/return_mean"] = -4.0
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare([tmp_path], smooth=1)
    assert [method.repeats[0].run.returns.tolist() for method in found.methods] == [[-6.0, -5.0, -4.0], [-2.0] * 3]
    assert any("the curves of ppo are of training games" in note for note in found.notes)


def test_returns_at_equal_games_turns_tokens_and_seconds(tmp_path: Path) -> None:
    _run(tmp_path / "a", [-10.0, -6.0], preset="ppo", length=6.0, tokens=1000, seconds=2)
    _run(tmp_path / "b", [-8.0, -4.0, -2.0, 0.0], preset="grpo", length=4.0, tokens=500, seconds=1)
    found = compare([tmp_path], smooth=1)
    at = {
        (cost.axis, cost.amount): {name: one and one.value for name, one in cost.returns.items()}
        for cost in found.equal_cost
    }
    assert at["games", 200.0] == {"ppo": -6.0, "grpo": -4.0}  # as far as both have come
    assert at["games", 50.0] == {"ppo": -15.0, "grpo": -14.0}  # half-way from the start, -20, to the first iteration
    assert at["turns", 1200.0] == {"ppo": -6.0, "grpo": -2.0}  # 2 iterations of 600, 3 of 400
    assert at["tokens", 2000.0] == {"ppo": -6.0, "grpo": 0.0}
    assert at["seconds", 4.0] == {"ppo": -6.0, "grpo": 0.0}


def test_runs_are_grouped_by_preset_and_what_differs_in_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        _run(tmp_path / f"a{seed}", [-9.0], seed=seed, threads=seed + 1, start_from=f"starts/{seed}")
        _run(tmp_path / f"b{seed}", [-9.0], seed=seed, critic={"trace": 0.5})
        _run(tmp_path / f"c{seed}", [-9.0, -8.0], seed=seed, preset="chai", iterations=2)
    labels = {method.label: [repeat.seed for repeat in method.repeats] for method in compare([tmp_path]).methods}
    assert labels == {"archer critic.trace=0.95": [0, 1], "archer critic.trace=0.5": [0, 1], "chai": [0, 1]}


def test_games_of_the_run_that_another_goes_on_from_are_games_and_nothing_else(tmp_path: Path) -> None:
    _run(tmp_path / "anew", [-10.0, -8.0, -6.0])
    _run(tmp_path / "shared", [-10.0, -8.0, -6.0], seed=1, start_from="starts/1")  # of a run that had played nothing
    (tmp_path / "c").mkdir()
    on = _run(tmp_path / "c" / "on", [-5.0, -3.0], start_from="runs/earlier", start=-7.0)
    rows = [json.loads(line) for line in (on / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["games"] += 250
    (on / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare([tmp_path], smooth=1, levels=[-5.0])
    anew, later = found.methods
    assert (anew.label, len(anew.repeats), later.label) == ("archer games_before=0", 2, "archer games_before=250")
    (repeat,) = later.repeats
    assert repeat.spent("games").tolist() == [350, 450] and repeat.spent("turns").tolist() == [500, 1000]
    assert repeat.spent("tokens").tolist() == [1000, 2000] and repeat.spent("seconds").tolist() == [2, 4]
    # the curve begins where the earlier run had come to: half-way from -7 after 250 games to -5 after 350
    assert repeat.at("games", np.array([249.0, 250.0, 300.0])).tolist() == pytest.approx(
        [math.nan, -7, -6], nan_ok=True
    )
    assert found.levels[-5.0][later.label].median.low == 350
    (note,) = [note for note in found.notes if "goes on from" in note]
    assert (
        "had played 250 games" in note and "its turns, tokens and seconds are its own alone" in note and str(on) in note
    )
    assert not any("goes on" in note for note in compare([tmp_path / "anew"]).notes)
    write_comparison(found, tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open() as file:
        assert [float(row["games"]) for row in csv.DictReader(file)][-2:] == [350, 450]


def test_runs_whose_critic_chooses_are_another_method_and_said_to_be(tmp_path: Path) -> None:
    _run(tmp_path / "alone", [-9.0], eval={"every": 1})
    _run(tmp_path / "chosen", [-5.0], eval={"best_of": 3}, rollout={"best_of": 3})
    _run(tmp_path / "rarely", [-9.0], seed=1, eval={"every": 0, "games": 7})
    found = compare([tmp_path])
    names = ("archer rollout.best_of=3 eval.best_of=3", "archer rollout.best_of=0 eval.best_of=0")
    assert {method.label: method.best_of for method in found.methods} == {names[0]: 3, names[1]: 0}
    assert [note for note in found.notes if "choice" in note] == [
        f"the returns of {names[0]} are of its critic's choice among 3 utterances a turn, not of the policy alone"
    ]
    assert as_json(found)["methods"][names[0]]["best_of"] == 3


def test_games_that_the_critic_chose_in_are_a_line_beside_the_policys(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", [-6.0, -4.0, -2.0], rollout={"best_of": 7}, start=-9.0)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[2] |= {"eval/return_mean": -8.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _run(tmp_path / "ppo", [-9.0, -8.0, -4.0], preset="ppo")
    assert [method.label for method in compare([tmp_path]).methods] == ["ppo", "archer"]
    found = compare([tmp_path], smooth=1, as_played=True, levels=[-4.0], against="ppo")
    methods = {method.label: method for method in found.methods}
    assert set(methods) == {"ppo", "archer", "archer as played"}  # PPO is measured as it plays
    alone, beside = methods["archer"], methods["archer as played"]
    assert alone.repeats[0].run.returns.tolist() == [-8.0] and alone.start.value == -9.0 and alone.best_of == 0
    assert beside.repeats[0].run.returns.tolist() == [-6.0, -4.0, -2.0] and beside.best_of == 7
    # It begins at its first games, and how it would do in the end nobody has measured.
    assert beside.start.value == -6.0 and beside.final is None and alone.final is not None
    assert found.ratios[-4.0]["archer as played"].value == Bounds(1.5, 1.5)  # 300 games against 200
    assert any("archer as played are of its critic's choice among 7" in note for note in found.notes)
    assert any("curves of ppo, archer as played are of training games" in note for note in found.notes)


def test_ratios_against_a_method(tmp_path: Path) -> None:
    for seed in (0, 1):
        _run(tmp_path / f"p{seed}", [-9.0, -8.0, -7.0, -6.0], seed=seed, preset="ppo")
        _run(tmp_path / f"a{seed}", [-7.0, -5.0, -3.0, -1.0], seed=seed)
        _run(tmp_path / f"g{seed}", [-9.5, -9.5, -9.5, -9.5], seed=seed, preset="grpo")
    found = compare([tmp_path], smooth=1, levels=[-7.0, -3.0], against="ppo")
    assert found.ratios[-7.0]["archer"].value == Bounds(3.0, 3.0)  # 300 games against 100
    assert found.ratios[-3.0]["archer"].value == Bounds(400 / 300, math.inf)  # PPO never did in its 400
    assert found.ratios[-7.0]["grpo"].never and "ppo" not in found.ratios[-7.0]


def test_demonstrations_count_where_they_are_to(tmp_path: Path) -> None:
    _run(tmp_path / "a", [-9.0, -5.0])
    found = compare([tmp_path], smooth=1, levels=[-5.0], count_demonstrations=True)
    assert found.levels[-5.0]["archer"].median.low == 250  # 200 games and 50 demonstrations


def test_a_run_under_way_is_taken_as_far_as_it_has_come(tmp_path: Path) -> None:
    _run(tmp_path / "a", [-9.0], final=None)
    (empty := tmp_path / "b").mkdir()
    (empty / "config.yaml").write_text(to_yaml(RunConfig(seed=1)))
    notes = compare([tmp_path]).notes
    assert any("unfinished" in note and "1 of 30 iterations" in note for note in notes)
    assert any("no iteration finished yet" in note and str(empty) in note for note in notes)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = _run(tmp_path / "one", [-9.0])
    twin = _run(tmp_path / "twin", [-8.0])
    with pytest.raises(ValueError, match=r"one and .*twin are the same seed \(0\) of the same method"):
        compare([one, twin])
    other = _run(tmp_path / "other", [-8.0], seed=1, env={"name": "twenty-questions"})
    with pytest.raises(
        ValueError, match=r"different tasks .*twenty-questions-10 in .*one; twenty-questions in .*other"
    ):
        compare([one, other])
    (nothing := tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"holds none: no config\.yaml in it or below"):
        compare([nothing])
    with pytest.raises(ValueError, match="is not a folder"):
        compare([tmp_path / "missing"])
    with pytest.raises(ValueError, match="no method is called 'ppo'; here are: 'archer'"):
        compare([one], against="ppo")
    with pytest.raises(ValueError, match=r"smooth averages over this many iterations.* must be 1, 3, 5"):
        compare([one], smooth=0)
    with pytest.raises(ValueError, match="got 4"):
        compare([one], smooth=4)
    offline = _run(tmp_path / "offline", [-8.0], seed=2)
    (offline / "metrics.jsonl").write_text('{"iteration": 1, "games": 0.0, "critic/q_loss": 1.0}\n')
    with pytest.raises(ValueError, match=r"offline/metrics\.jsonl.*a run without games and their returns"):
        compare([offline])
    nothing_played: dict[str, Any] = {
        "rollout": {"games": 0, "best_of": 0}, "critic": {"demonstrations": 1.0}, "actor": {"demonstrations": 1.0}
    }  # fmt: skip
    files = _run(tmp_path / "files", [-8.0], seed=3, **nothing_played)
    with pytest.raises(
        ValueError, match=r"files played nothing .* leave it out.*`archer evaluate .*files`, with --env"
    ):
        compare([one, files])
    (offline / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1: not JSON"):
        compare([offline])


def test_files_hold_every_run_and_the_picture_its_curves(tmp_path: Path) -> None:
    for seed in (0, 1):
        _run(tmp_path / "runs" / f"a{seed}", [-9.0 - seed, -5.0], seed=seed)
    found = compare([tmp_path / "runs"], smooth=3)
    write_comparison(found, tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["iteration"], row["return"], row["smoothed"]) for row in rows] == [
        ("0", "1", "-9.0", "-9.0"), ("0", "2", "-5.0", "-7.0"),
        ("1", "1", "-10.0", "-10.0"), ("1", "2", "-5.0", "-7.5"),
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == json.loads(json.dumps(as_json(found)))
    assert len((tmp_path / "out" / "compare.png").read_bytes()) > 10_000


def test_the_command_compares_without_loading_torch(tmp_path: Path) -> None:
    _run(tmp_path / "a", [-9.0, -5.0])
    script = (
        "import sys; from archer.cli import main; main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules, 'comparing needs no torch'"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "compare", str(tmp_path), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["methods"]) == {"archer"}
    done = subprocess.run([sys.executable, "-c", script, "compare", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and "archer" in done.stdout and "warm-up included" in done.stdout
