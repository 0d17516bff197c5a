"""Credit of played utterances against hand arithmetic, and when it is found."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from archer.algorithms.actor import update_actor
from archer.algorithms.credit import CREDITS, assign_credit, gae, group, steps, token_gae
from archer.algorithms.credit.shares import whiten
from archer.algorithms.high import tokens
from archer.config import ActorConfig, CriticConfig
from archer.models.agent import Agent
from archer.models.batch import EpisodeBatch, collate
from archer.models.critic import Critic, Values
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode, Turn, Utterance
from tests.conftest import SAMPLING


def _said(length: int) -> Utterance:
    return Utterance(np.ones(length, np.int32), np.zeros(length, np.float32), "")


def _game(rewards: list[float], lengths: list[int], seed: int = 0, prompts: list[int] | None = None) -> Episode:
    """A game that ended with the task; ``lengths`` are the tokens of its utterances, ``prompts`` name its states."""
    states = [np.full(1 + t, (prompts or list(range(9)))[t], np.int32) for t in range(len(rewards))]
    turns = tuple(Turn(s, _said(n), "", r, {}) for s, n, r in zip(states, lengths, rewards, strict=True))
    return Episode(turns, End.TERMINATED, np.arange(5, dtype=np.int32), seed=seed, task="x", policy_version=0)


class Fixed(Critic):
    """Values that were written down: one per turn, one per token; the second head sees two more."""

    def __init__(self, v: list[float], v_tokens: list[float]) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        both = torch.tensor([0.0, 2.0])
        self.turns, self.tokens = torch.tensor(v)[:, None] + both, torch.tensor(v_tokens)[:, None] + both

    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        none = torch.zeros(0, 2)
        final = torch.full((len(batch.episodes), 2), 100.0)
        return Values(self.turns, self.turns, none, final, torch.zeros(0), self.tokens if tokens else none)


CONFIG = CriticConfig(discount=0.5, trace=0.5)
ONE = _game([1.0, 2.0], [2, 1])


def _white(values: list[float]) -> list[float]:
    array = np.array(values)
    return [float(x) for x in (array - array.mean()) / array.std()]


def test_gae_is_the_lambda_return_minus_v() -> None:
    # heads V = (3, 4) and (5, 6). δ_0 = 1 + ½·4 - 3 = 0 and 1 + ½·6 - 5 = -1; δ_1 = 2 - 4 = -2 and 2 - 6 = -4
    # A_0 = δ_0 + ½·½·δ_1 = -½ and -2, mean -1.25; A_1 = -2 and -4, mean -3
    found = gae.credit([ONE], Fixed([3.0, 4.0], []), CONFIG)[0]
    a, b = _white([-1.25, -3.0])
    assert found.tolist() == pytest.approx([a, a, b], abs=1e-5)  # once for each token


def test_token_gae_discounts_between_utterances_only() -> None:
    # tokens a b | c with V = 1, 2, 4 (second head 3, 4, 6), rewards 0, 1, 2
    # head 1: δ_c = 2 - 4 = -2; δ_b = 1 + ½·4 - 2 = 1, A_b = 1 + ½·½·(-2) = ½; δ_a = 2 - 1 = 1, A_a = 1 + 1·½·½ = 1.25
    # head 2: δ_c = -4; δ_b = 1 + ½·6 - 4 = 0, A_b = -1; δ_a = 4 - 3 = 1, A_a = 1 - ½ = ½
    found = token_gae.credit([ONE], Fixed([0.0, 0.0], [1.0, 2.0, 4.0]), CONFIG)[0]
    assert found.tolist() == pytest.approx(_white([(1.25 + 0.5) / 2, -0.25, -3.0]), abs=1e-5)


def test_targets_of_token_values_are_lambda_returns_over_tokens() -> None:
    critic = Fixed([0.0, 0.0], [1.0, 2.0, 4.0])
    values = critic.forward(collate([ONE]), tokens=True)
    found = tokens.targets(values, [ONE], CONFIG)
    # A + V of head 1 above: 1.25 + 1, ½ + 2, -2 + 4
    assert found.tokens is not None and found.tokens[:, 0].tolist() == pytest.approx([2.25, 2.5, 2.0])
    assert found.q is None and found.v is None


def test_a_group_compares_returns_of_one_seed() -> None:
    games = [
        _game([1.0, 1.0], [2, 1], seed=4),
        _game([9.0], [3], seed=7),
        _game([4.0], [1], seed=4),
        _game([9.0], [1], seed=7),
    ]
    found = group.credit(games, None, CONFIG)
    # seed 4: returns 2 and 4, mean 3, deviation 1; seed 7: both 9, nothing to tell
    assert [shares.tolist() for shares in found] == [
        pytest.approx([-1.0] * 3, abs=1e-5),
        [0.0] * 3,
        pytest.approx([1.0], abs=1e-5),
        [0.0],
    ]


def test_a_game_that_failed_is_no_part_of_a_group() -> None:
    """Where every turn costs something, the game whose environment died first would be the best."""
    played = [_game([-1.0] * 4, [1] * 4, seed=4), _game([-1.0] * 2, [1] * 2, seed=4)]
    cut = dataclasses.replace(_game([-1.0], [1], seed=4), end=End.ENV_ERROR)
    for credit in (group.credit, steps.credit):
        alone = credit(played, None, CONFIG)
        among = credit([played[0], cut, played[1]], None, CONFIG)
        assert [shares.tolist() for shares in among] == [alone[0].tolist(), [0.0], alone[1].tolist()]


@pytest.mark.parametrize("spread", [0.0, 1e-5])
def test_rounding_is_not_whitened_to_an_advantage(spread: float) -> None:
    advantages = torch.full((500,), -97.3) + spread * torch.randn(500, generator=torch.Generator().manual_seed(0))
    assert not np.concatenate(whiten([advantages[:200], advantages[200:]])).any()


def test_a_group_of_one_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"every task seed was played once.*rollout\.group to at least 2"):
        group.credit([_game([1.0], [1], seed=4), _game([1.0], [1], seed=7)], None, CONFIG)
    # One whose companions were lost, or forgotten, says nothing, and stops nothing.
    left = [_game([1.0], [1], seed=4), _game([3.0], [1], seed=4), _game([8.0], [1], seed=7)]
    assert [shares.tolist() for shares in group.credit(left, None, CONFIG)] == [
        pytest.approx([-1.0], abs=1e-5), pytest.approx([1.0], abs=1e-5), [0.0],
    ]  # fmt: skip


def test_steps_compare_what_followed_at_equal_states() -> None:
    # Both begin at state 5; then they part. Discounted returns at the start: 0 + ½·4 = 2 and 0 + ½·0 = 0.
    games = [_game([0.0, 4.0], [1, 2], prompts=[5, 6]), _game([0.0, 0.0], [2, 1], prompts=[5, 7])]
    found = steps.credit(games, None, CONFIG)
    # the game: ±1 (returns 4 and 0); the first turn: ±1 again; the second, alone at its state, nothing more
    assert found[0].tolist() == pytest.approx([2.0, 1.0, 1.0], abs=1e-5)
    assert found[1].tolist() == pytest.approx([-2.0, -2.0, -1.0], abs=1e-5)


def test_states_of_other_seeds_are_other_states() -> None:
    games = [_game([r], [1], seed=s) for r, s in ((1.0, 0), (3.0, 0), (10.0, 1), (30.0, 1))]
    # within seed 0 and within seed 1: -1 and 1 for the game, the same again for the step
    assert np.concatenate(steps.credit(games, None, CONFIG)).tolist() == pytest.approx([-2, 2, -2, 2], abs=1e-4)


def test_advantages_of_the_critic_alone_are_no_credit() -> None:
    assert assign_credit("siblings", Replay(10), None, CONFIG) is None
    assert assign_credit("none", Replay(10), None, CONFIG) is None


@pytest.mark.parametrize("method", CREDITS)
@pytest.mark.parametrize("anchored", [False, True])
def test_the_actor_learns_from_credit(agent: Agent, episodes: list[Episode], method: str, anchored: bool) -> None:
    pairs = [dataclasses.replace(episode, seed=number // 2) for number, episode in enumerate(episodes[:6])]
    replay = Replay(0)
    replay.add(pairs)
    credit = assign_credit(method, replay, agent.critic, CriticConfig())
    assert credit is not None
    for episode in pairs:
        assert credit[id(episode)].shape == (sum(len(turn.utterance.ids) for turn in episode.turns),)
    before = [p.detach().clone() for p in agent.actor.parameters()]
    config: dict[str, Any] = {
        "method": "ppo",
        "utterances": "played",
        "advantage": method,
        "updates": 2,
        "batch_turns": 30,
    }
    metrics = update_actor(
        agent, agent.actor if anchored else None, replay, ActorConfig(**config),
        sampler=SiblingSampler(agent.actor, SAMPLING), seed=[0], credit=credit,
    )  # fmt: skip
    assert all(math.isfinite(value) for value in metrics.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.actor.parameters(), strict=True))


def test_the_first_step_on_played_utterances_has_ratio_one(agent: Agent, episodes: list[Episode]) -> None:
    replay = Replay(0)
    replay.add(episodes)
    credit = assign_credit("gae", replay, agent.critic, CriticConfig())
    config = ActorConfig(method="ppo", utterances="played", advantage="gae", updates=1, clip_ratio=0.001)
    metrics = update_actor(
        agent, None, replay, config, sampler=SiblingSampler(agent.actor, SAMPLING), seed=[0], credit=credit
    )
    # The log-probabilities that were stored while playing are those of the same weights now: nothing is clipped.
    assert metrics["actor/clipped"] == 0.0


def test_no_siblings_are_sampled_where_what_was_played_is_the_policys_own(
    agent: Agent, episodes: list[Episode], sampled: list[int]
) -> None:
    replay = Replay(0)
    replay.add(episodes)
    credit = assign_credit("gae", replay, agent.critic, CriticConfig())
    config = ActorConfig(method="ppo", utterances="played", advantage="gae", updates=1)
    metrics = update_actor(
        agent, agent.actor, replay, config, sampler=SiblingSampler(agent.actor, SAMPLING), seed=[0], credit=credit
    )
    assert not sampled and metrics["actor/kl"] == pytest.approx(0.0, abs=1e-6)
