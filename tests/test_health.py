"""A critic's health: every number by hand, every verdict by a case made for it, and logging that changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archer
from archer.cli import main
from archer.config import CriticConfig
from archer.health.critic import critic_health, value_turns
from archer.health.diagnosis import Verdict, diagnose
from archer.health.numbers import Health, ValuedTurns, measure_health, sign_share
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch
from archer.models.critic import Critic, Values
from archer.operations.collecting import collect_scripted
from archer.operations.doctoring import examine
from archer.storage.conversations import write_conversations
from archer.storage.metricsfile import read_metrics
from archer.types import End, Episode, Turn, Utterance
from tests.conftest import Command
from tests.runs import preset_run
from tests.worlds import TwoSteps


def _turns(q: list[float], v: list[float], returns: list[float], games: list[int], gap: float = 0.0) -> ValuedTurns:
    """Turns whose lesser Q is ``q``; the other head is ``gap`` above it. All are the first of their game."""
    lesser = np.array(q, float)
    return ValuedTurns(
        q=np.stack([lesser + gap, lesser], axis=1),
        v=np.array(v, float),
        returns=np.array(returns, float),
        td_errors=np.zeros(len(q)),
        game=np.array(games),
        turn=np.ones(len(q), np.int64),
    )


def test_numbers_of_a_forecast_by_hand() -> None:
    found = measure_health(_turns([1, 2, 3, 4], [0, 0, 0, 0], [1, 3, 5, 7], [0, 1, 2, 3], gap=0.5))
    assert found.bias == pytest.approx(-1.5)  # (0 - 1 - 2 - 3) / 4
    assert found.slope == pytest.approx(2.0)  # returns are 2 Q - 1
    assert found.correlation == pytest.approx(1.0)
    # G - Q = 0, 1, 2, 3 has variance 1.25, G has 5
    assert found.explained_variance == pytest.approx(0.75)
    assert found.twin_gap == pytest.approx(0.5)
    assert found.relative_twin_gap == pytest.approx(0.5 / 5**0.5)
    assert (found.games, found.turns, found.nonfinite) == (4, 4, 0)


def test_the_sign_share_weighs_by_the_size_of_advantages() -> None:
    # A = Q - V = 3, -1, 1, -3 (mean 0); V says nothing, so right is the sign of G - mean G = 1, 1, -1, -1
    found = measure_health(_turns([3, -1, 1, -3], [0, 0, 0, 0], [2, 2, 0, 0], [0, 1, 2, 3]))
    assert found.sign_share == pytest.approx((3 + 3) / 8)  # the two of size 1 are wrong


def test_noise_in_v_does_not_pass_for_knowledge() -> None:
    rng = np.random.default_rng(0)
    v, q, returns = rng.normal(0, 5, 4000), rng.normal(0, 0.1, 4000), rng.normal(0, 1, 4000)
    # Q - V and G - V agree in sign nearly always, and know nothing of each other.
    assert np.mean(np.sign(q - v) == np.sign(returns - v)) > 0.9
    share, half_width = sign_share(q, v, returns, np.arange(4000))
    assert share is not None and half_width is not None and abs(share - 0.5) < 2 * half_width < 0.1


def test_an_exact_critic_of_long_shots_is_healthy() -> None:
    """One utterance pays 30 in one game of ten, mean 3, the other 4 in one of two, mean 2: most of the former lose."""
    rng = np.random.default_rng(0)
    long_shot = rng.random(20_000) < 0.5
    chance = rng.random(20_000)
    returns = np.where(long_shot, 30.0 * (chance < 0.1), 4.0 * (chance < 0.5))
    q = np.where(long_shot, 3.0, 2.0)
    found = measure_health(_turns(list(q), [2.5] * 20_000, list(returns), list(range(20_000))))
    assert found.sign_share is not None and found.sign_share < 0.35  # 1 - the share of turns that came out otherwise
    assert diagnose(found).verdict is Verdict.HEALTHY
    wrong = measure_health(_turns(list(5 - q), [2.5] * 20_000, list(returns), list(range(20_000))))
    assert diagnose(wrong).verdict is Verdict.NOT_READY


def test_turns_of_one_game_share_their_luck() -> None:
    rng = np.random.default_rng(0)
    luck, said = rng.normal(size=40), rng.normal(size=40)
    apart = sign_share(said, np.zeros(40), luck, np.arange(40))[1]
    tenfold = sign_share(said.repeat(10), np.zeros(400), luck.repeat(10), np.arange(40).repeat(10))[1]
    assert apart is not None and tenfold == pytest.approx(apart)  # ten copies of a game are one game


def test_values_that_are_no_numbers_are_counted() -> None:
    found = measure_health(_turns([1, float("nan"), 3], [0, 0, 0], [1, 2, 3], [0, 1, 2]))
    assert found.nonfinite == 1 and found.bias is None
    assert diagnose(found).verdict is Verdict.COLLAPSED


class Fixed(Critic):
    """Q and V that were written down, per turn."""

    def __init__(self, q: list[list[float]], v: list[list[float]], final: float, by_token: list[list[float]]) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.given = torch.tensor(q), torch.tensor(v), torch.tensor(by_token)
        self.final = final

    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        q, v, by_token = self.given
        final = torch.full((len(batch.episodes), 2), self.final)
        return Values(q, v, torch.zeros(0, 2), final, torch.zeros(0), by_token if tokens else torch.zeros(0, 2))


def _cut_game() -> Episode:
    """Rewards 1 and 2, two tokens each, stopped by us."""
    said = Utterance(np.ones(2, np.int32), np.zeros(2, np.float32), "")
    turns = tuple(Turn(np.ones(1 + t, np.int32), said, "", reward, {}) for t, reward in enumerate([1.0, 2.0]))
    return Episode(turns, End.TURN_LIMIT, np.ones(5, np.int32), seed=0, task="x", policy_version=0)


def test_returns_and_td_errors_of_played_turns() -> None:
    critic = Fixed([[5.0, 4.0], [3.0, 6.0]], [[1.0, 2.0], [8.0, 7.0]], final=10.0, by_token=[])
    found = value_turns(critic, [_cut_game()], CriticConfig(discount=0.5))
    assert found.returns.tolist() == [4.5, 7.0]  # 2 + ½·10, we stopped it; 1 + ½·7
    assert found.v.tolist() == [1.0, 7.0]
    assert found.td_errors.tolist() == [0.5, 4.0]  # 1 + ½·7 - 4; 2 + ½·10 - 3
    assert (found.turn.tolist(), found.game.tolist()) == ([1, 2], [0, 0])


def test_a_critic_of_tokens_is_asked_before_the_last_of_an_utterance() -> None:
    by_token = [[1.0, 1.0], [4.0, 5.0], [7.0, 7.0], [3.0, 3.5]]
    critic = Fixed([[99.0, 99.0]] * 2, [[1.0, 2.0], [8.0, 7.0]], final=10.0, by_token=by_token)
    found = value_turns(critic, [_cut_game()], CriticConfig(method="tokens", discount=0.5))
    assert found.q.tolist() == [[4.0, 5.0], [3.0, 3.5]]


GOOD = Health(
    games=200, turns=1000, nonfinite=0, bias=0.1, slope=1.0, correlation=0.5, explained_variance=0.3, twin_gap=0.1,
    sign_share=0.6, sign_share_ci95=0.03, advantage_correlation=0.2, advantage_correlation_ci95=0.3, advantage_std=0.5,
    q_std=1.0, return_std=2.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({}, Verdict.HEALTHY, "more so than chance"),
        ({"q_std": 0.02}, Verdict.NOT_READY, "nearly the same everywhere"),
        ({"advantage_std": 0.01}, Verdict.NOT_READY, "finds all utterances alike"),
        ({"nonfinite": 3, "return_std": None}, Verdict.COLLAPSED, "no finite numbers"),
        ({"sign_share": 0.51}, Verdict.NOT_READY, "hardly better than coin flipping"),
        ({"sign_share": 0.4, "advantage_correlation": -0.1}, Verdict.NOT_READY, "point the wrong way"),
        ({"sign_share": 0.4}, Verdict.UNDECIDED, "long shots"),
        ({"sign_share": 0.4, "advantage_correlation_ci95": 0.1}, Verdict.HEALTHY, "more so than chance"),
        ({"explained_variance": -1.5}, Verdict.NOT_READY, "tells more apart than there is"),
        ({"correlation": 0.05}, Verdict.NOT_READY, "hardly goes with the returns"),
        ({"bias": -2.5}, Verdict.NOT_READY, "2.5 below the returns"),
        ({"twin_gap": 1.5}, Verdict.NOT_READY, "two heads of Q differ by 1.5"),
        ({"games": 5}, Verdict.UNDECIDED, "too few to judge by"),
        ({"return_std": 0.0}, Verdict.UNDECIDED, "All turns had the same return"),
        ({"sign_share": 0.55, "sign_share_ci95": 0.1}, Verdict.UNDECIDED, "take more games"),
    ],
)
def test_every_verdict_has_its_reason(changes: dict[str, Any], verdict: Verdict, reason: str) -> None:
    found = diagnose(dataclasses.replace(GOOD, **changes))
    assert found.verdict is verdict
    assert reason in found.reasons[0]


def _logged(*spreads: float | None) -> list[dict[str, Any]]:
    """Lines of the metrics with these spreads of Q and a tenth of them of advantages, where the returns' is 4."""
    rows: list[dict[str, Any]] = [{"iteration": 0, "eval/return_mean": -1.0}]
    for iteration, spread in enumerate(spreads, start=1):
        share = {} if spread is None else {"critic/q_std": spread, "critic/advantage_std": spread / 10}
        rows.append({"iteration": iteration, "critic/return_std": 4.0, **share})
    return rows


@pytest.mark.parametrize("flat", [{"q_std": 0.02}, {"advantage_std": 0.002}])
def test_only_what_was_there_can_be_lost(flat: dict[str, Any]) -> None:
    young = dataclasses.replace(GOOD, **flat)  # in spreads of the returns 0.01 and 0.001
    # a share of 0.2 of Q, of 0.02 of advantages, in iteration 2; 0.04 and 0.004 are below what a critic needs
    lost = diagnose(young, _logged(0.04, 0.8, None, 0.04))
    assert lost.verdict is Verdict.COLLAPSED and "In iteration 2 it was 0.2" in lost.reasons[0].replace("0.02", "0.2")
    assert "begun" not in lost.reasons[0]
    for logged in ([], _logged(None, None), _logged(0.04, 0.16)):
        assert diagnose(young, logged).verdict is Verdict.NOT_READY
    # 0.045 of the returns' spread is too little, but a critic that never had more than 0.06 has only wavered
    assert diagnose(dataclasses.replace(GOOD, q_std=0.09), _logged(0.24)).verdict is Verdict.NOT_READY


def test_an_untrained_critic_is_not_healthy(agent: Agent, episodes: list[Episode]) -> None:
    games = [dataclasses.replace(episode, seed=n) for n, episode in enumerate(episodes * 4)]
    health = measure_health(value_turns(agent.learned_critic, games, CriticConfig()))
    assert diagnose(health).verdict is not Verdict.HEALTHY


def test_logging_draws_no_random_numbers_and_changes_no_weight(agent: Agent, episodes: list[Episode]) -> None:
    before = [p.clone() for p in agent.learned_critic.parameters()]
    state = torch.get_rng_state()
    metrics = critic_health(agent.learned_critic, episodes, CriticConfig())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, agent.learned_critic.parameters(), strict=True))
    assert {"critic/bias", "critic/return_correlation", "critic/td_rms_turn_01"} <= set(metrics)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    # Few iterations: where every game is won, no critic can show what it knows.
    settings: dict[str, Any] = {
        "supervised": {"epochs": 20}, "rollout": {"games": 32}, "iterations": 4, "critic": {"updates": 10, "lr": 1e-3},
    }  # fmt: skip
    archer.train(preset_run("archer-reinforce", "tests.worlds:TwoSteps", **settings), run)
    return run


def test_every_iteration_logs_the_critics_health(trained: Path) -> None:
    rows = [row for row in read_metrics(trained / "metrics.jsonl") if row["iteration"]]
    assert all("critic/twin_gap" in row and "critic/td_mean_turn_02" in row for row in rows)


def test_the_doctor_says_how_the_critic_is(trained: Path, tmp_path: Path, command: Command) -> None:
    shown = command("doctor", str(trained), "--episodes", "100", "--out", str(tmp_path / "q.png"))
    assert shown.code == 0, shown.err
    assert "The critic" in shown.out and "TD error by turn" in shown.out and "In training" in shown.out
    assert (tmp_path / "q.png").read_bytes().startswith(b"\x89PNG")
    data = tmp_path / "games.jsonl"
    write_conversations(data, collect_scripted("demonstrator", TwoSteps, 50, seed=9))
    found = json.loads(command("doctor", str(trained), "--file", str(data), "--json").out)
    assert found["verdict"] in list(Verdict) and found["health"]["games"] == 50 and len(found["development"]) == 3
    with data.open("a") as file:
        file.write("nonsense\n")
    assert f"{data}:51: Invalid JSON" in command("doctor", str(trained), "--file", str(data)).err
    left = json.loads(command("doctor", str(trained), "--file", str(data), "--skip-malformed", "--json").out)
    assert left["health"]["games"] == 50 and left["skipped"] == 1 and f"{data}:51: " in left["problems"][0]
    assert f"  {data}:51: " in command("doctor", str(trained), "--file", str(data), "--skip-malformed").err


def test_the_doctor_remembers_what_the_run_logged(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "archer.operations.doctoring.measure_health", lambda turns: dataclasses.replace(GOOD, q_std=0.0)
    )
    assert examine(archer.load(trained), episodes=20).diagnosis.verdict is Verdict.COLLAPSED


def test_the_doctor_explains_what_it_cannot_examine(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = tmp_path / "bc"
    archer.train(preset_run("bc", "tests.worlds:TwoSteps", iterations=0), without)
    for arguments, message in (
        ([str(tmp_path)], "is not a run"),
        ([str(without)], "has no critic: it was trained with critic.method='none'"),
        ([str(trained), "--episodes", "1"], "--episodes must be at least 20"),
        ([str(trained), "--out", "here.txt"], "must end in .png"),
        ([str(trained), "--file", "x.jsonl", "--episodes", "50"], "leave --episodes out"),
        ([str(trained), "--skip-malformed"], "--skip-malformed is for conversations of a file"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *arguments])
        assert ended.value.code in (1, 2) and message in capsys.readouterr().err
