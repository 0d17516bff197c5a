"""High levels: the targets that each sets, and how they reduce to one another."""

from __future__ import annotations

import dataclasses
import math
from copy import deepcopy
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from archer.algorithms.critic import update_critic
from archer.algorithms.high import HIGH_LEVELS, gae, iql, mc, retrace, sarsa, td
from archer.algorithms.likelihood import as_said_by, policy_ratios
from archer.config import CriticConfig
from archer.losses import critic_loss
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import Values
from archer.replay import Replay
from archer.rollout.play import play
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode, Turn, Utterance
from tests.conftest import LIMITS, SAMPLING
from tests.worlds import Echo


def _game(rewards: list[float], end: End) -> Episode:
    said = Utterance(np.array([1], np.int32), np.zeros(1, np.float32), "")
    turns = tuple(Turn(np.arange(1 + t, dtype=np.int32), said, "", reward, {}) for t, reward in enumerate(rewards))
    return Episode(turns, end, np.arange(5, dtype=np.int32), seed=0, task="x", policy_version=0)


# One game of two turns that ended with the task, and one of a single turn that was cut off. One head is told apart
# from the other by being ten times as large.
GAMES = [_game([1.0, 2.0], End.TERMINATED), _game([4.0], End.TURN_LIMIT)]
HEADS = torch.tensor([1.0, 10.0])
TARGET = Values(
    q=torch.tensor([[3.0], [5.0], [7.0]]) * HEADS,
    v=torch.tensor([[0.5], [6.0], [8.0]]) * HEADS,
    q_siblings=torch.tensor([[[11.0]], [[13.0]], [[17.0]]]) * HEADS,
    v_final=torch.tensor([[100.0], [20.0]]) * HEADS,
    answers=torch.zeros(0),
    v_tokens=torch.zeros(0, 2),
)


def _config(**settings: Any) -> CriticConfig:
    return CriticConfig(**{"discount": 0.5, "trace": 0.0, **settings})


def test_the_names_in_the_settings_are_those_of_the_dictionary() -> None:
    assert set(get_args(get_type_hints(CriticConfig)["method"])) == {*HIGH_LEVELS, "none"}


def test_td_bootstraps_on_v_and_takes_v_from_resampled_utterances() -> None:
    found = td.targets(TARGET, GAMES, _config())
    assert found.q is not None and found.v is not None
    # 1 + ½·6;  2, the task ended;  4 + ½·20, we stopped it
    assert found.q[:, 0].tolist() == [4.0, 2.0, 14.0]
    assert found.v[:, 0].tolist() == [11.0, 13.0, 17.0]
    # each head on itself: 1 + ½·60, 2, 4 + ½·200
    assert found.q[:, 1].tolist() == [31.0, 2.0, 104.0]


@pytest.mark.parametrize("method", [sarsa, iql])
def test_sarsa_and_iql_take_v_from_what_was_played(method: Any) -> None:
    found = method.targets(TARGET, GAMES, _config(expectile=0.8))
    assert found.q is not None and found.v is not None
    assert found.q[:, 0].tolist() == [4.0, 2.0, 14.0]
    assert torch.equal(found.v, TARGET.q)
    assert found.expectile == (0.8 if method is iql else 0.5)


def test_monte_carlo_sums_the_rewards_for_both() -> None:
    found = mc.targets(TARGET, GAMES, _config())
    assert found.q is not None and found.v is not None
    assert found.q[:, 0].tolist() == [2.0, 2.0, 14.0]  # 1 + ½·2;  2;  4 + ½·20
    assert torch.equal(found.q, found.v)


def test_trace_1_of_td_is_monte_carlo_and_0_is_one_step() -> None:
    whole, half = (td.targets(TARGET, GAMES, _config(trace=trace)).q for trace in (1.0, 0.5))
    returns = mc.targets(TARGET, GAMES, _config()).q
    assert whole is not None and half is not None and returns is not None
    assert torch.equal(whole, returns)
    assert half[0, 0].item() == pytest.approx((4.0 + 2.0) / 2)  # between one step, 4, and the return, 2


def test_retrace_follows_a_game_as_far_as_the_policy_would_have_gone() -> None:
    def first(ratio: float, trace: float) -> float:
        target = dataclasses.replace(TARGET, ratio=torch.tensor([1.0, ratio, 1.0]))
        found = retrace.targets(target, GAMES, _config(trace=trace))
        assert found.q is not None and found.v is not None
        assert found.v[:, 0].tolist() == [11.0, 13.0, 17.0]  # as in td
        assert found.q[1:, 0].tolist() == [2.0, 14.0]  # nothing follows a last turn
        assert found.q[0, 1].item() == pytest.approx(1 + 0.5 * (60 + trace * min(1.0, ratio) * (2 - 50)))
        return found.q[0, 0].item()

    assert first(0.0, 1.0) == 4.0  # it would not have said that: one step, 1 + ½·6
    assert first(1.0, 0.0) == 4.0
    assert first(1.0, 1.0) == pytest.approx(2.5)  # 1 + ½ (6 + 2 - 5): what came next was 3 less than expected
    assert first(7.0, 1.0) == pytest.approx(2.5)  # likelier than then: no longer trace than λ
    assert first(0.5, 0.5) == pytest.approx(3.625)  # 1 + ½ (6 + ¼ (2 - 5))


def test_a_ratio_is_of_the_whole_utterance(agent: Agent, episodes: list[Episode]) -> None:
    """Nearly 1 for who said it, whatever was stored for the others; 1 where it is not known who did."""
    own = policy_ratios(agent.actor, episodes)
    assert all(
        ratio.tolist() == pytest.approx([1.0] * len(episode), abs=1e-3)
        for ratio, episode in zip(own, episodes, strict=True)
    )
    unlikely = episodes[0].with_logprobs(episodes[0].logprobs - 0.1)
    tokens = [len(turn.utterance.ids) for turn in unlikely.turns]
    assert policy_ratios(agent.actor, [unlikely])[0].tolist() == pytest.approx(
        [math.exp(0.1 * count) for count in tokens], rel=1e-3
    )
    unknown = episodes[0].with_logprobs(episodes[0].logprobs * np.nan)
    assert policy_ratios(agent.actor, [unknown])[0].tolist() == [1.0] * len(unknown)
    known = as_said_by(agent.actor, [unknown])[0]
    assert known.logprobs == pytest.approx(episodes[0].logprobs, abs=1e-4)
    assert np.array_equal(known.final_prompt_ids, unknown.final_prompt_ids)


def test_lambda_returns_of_both_lie_between_one_step_and_monte_carlo() -> None:
    found = gae.targets(TARGET, GAMES, _config(trace=0.5))
    assert found.q is not None and found.v is not None
    # 1 + ½ (½·6 + ½·2) = 3;  2;  4 + ½·20
    assert found.q[:, 0].tolist() == [3.0, 2.0, 14.0]
    assert torch.equal(found.q, found.v)
    at_one = gae.targets(TARGET, GAMES, _config(trace=1.0)).v
    returns = mc.targets(TARGET, GAMES, _config()).v
    assert at_one is not None and returns is not None and torch.equal(at_one, returns)


def test_an_expectile_weighs_the_two_sides_of_the_error() -> None:
    values = torch.tensor([[1.0], [3.0]], requires_grad=True)
    targets = torch.tensor([[2.0], [1.0]])
    loss, _ = critic_loss(values, targets, expectile=0.9)
    # too low: 2 · 0.9 · 1² = 1.8; too high: 2 · 0.1 · 2² = 0.8; mean 1.3
    assert loss.item() == pytest.approx(1.3)
    loss.backward()  # type: ignore[no-untyped-call]
    # 2 · 0.9 · 2 (1 - 2) / 2 and 2 · 0.1 · 2 (3 - 1) / 2
    assert values.grad is not None and values.grad[:, 0].tolist() == pytest.approx([-1.8, 0.4])


def test_expectile_one_half_is_the_mean() -> None:
    values, targets = torch.randn(20, 2), torch.randn(20, 2)
    assert critic_loss(values, targets, 0.5)[0].item() == pytest.approx((values - targets).pow(2).mean(0).sum().item())


def test_an_update_of_iql_with_expectile_one_half_is_one_of_sarsa(agent: Agent, episodes: list[Episode]) -> None:
    replay = Replay(1000)
    replay.add(episodes)

    def gradient(**settings: Any) -> torch.Tensor:
        own = deepcopy(agent)
        config = _config(updates=1, batch_turns=12, **settings)
        update_critic(own, replay, config, sampler=SiblingSampler(own.actor, SAMPLING), seed=[0])
        return torch.cat([p.grad.flatten() for p in own.learned_critic.parameters() if p.grad is not None])

    half, high = gradient(method="iql", expectile=0.5), gradient(method="iql", expectile=0.9)
    assert torch.equal(gradient(method="sarsa"), half)
    assert (high - half).norm() > 0.01 * half.norm()  # and τ does reach V's loss


@pytest.mark.parametrize("name", HIGH_LEVELS)
def test_only_who_wants_fresh_utterances_has_them_sampled(
    name: str, agent: Agent, episodes: list[Episode], sampled: list[int]
) -> None:
    replay = Replay(1000)
    replay.add(episodes)
    before = [p.clone() for p in agent.learned_critic.parameters()]
    config = _config(method=name, updates=2, batch_turns=8)
    metrics = update_critic(agent, replay, config, sampler=SiblingSampler(agent.actor, SAMPLING), seed=[0])
    assert bool(sampled) == HIGH_LEVELS[name].resamples == (name in ("td", "retrace"))
    assert metrics["critic/grad_norm"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.learned_critic.parameters(), strict=True))


@pytest.mark.parametrize("name", HIGH_LEVELS)
def test_a_batch_in_parts_gives_the_gradient_and_metrics_of_the_whole(name: str, agent: Agent) -> None:
    """Parts of different sizes: games of one to several turns, with short utterances and with long ones."""
    replay = Replay(1000)
    for tokens in (2, 9):
        sampling = Sampling(max_tokens=tokens)
        replay.add(play(agent.actor, Echo, [0, 1, 2], task="echo", sampling=sampling, limits=LIMITS))
    gradients, metrics = [], []
    for parts in (1, 3):
        own = deepcopy(agent)
        config = _config(method=name, updates=1, batch_turns=12, accumulation=parts, answer_weight=0.5)
        own.critic_optimizer = make_optimizer(own.learned_critic, config)
        metrics.append(update_critic(own, replay, config, sampler=SiblingSampler(own.actor, SAMPLING), seed=[0]))
        gradients.append(torch.cat([p.grad.flatten() for p in own.learned_critic.parameters() if p.grad is not None]))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-6 * float(gradients[0].abs().max()))
