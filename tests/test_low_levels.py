"""Low levels: their losses against hand arithmetic, and how they reduce to one another."""

from __future__ import annotations

import dataclasses
import math
from copy import deepcopy
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from archer.algorithms.actor import update_actor
from archer.algorithms.credit import CREDITS
from archer.algorithms.low import LOW_LEVELS, awr, baseline, cloning, filtered, ppo, reinforce
from archer.algorithms.low.spoken import (
    ADVANTAGES,
    Spoken,
    engine_trust,
    played_advantage,
    siblings_advantage,
    value_advantage,
)
from archer.config import ActorConfig, BaselineConfig
from archer.losses import clip_loss, weighted_cloning_loss
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.batch import collate
from archer.models.critic import Values
from archer.models.token_baseline import TokenBaseline
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode, Utterance
from tests.conftest import SAMPLING

FRESH: dict[str, Any] = {"utterances": "fresh", "advantage": "siblings"}


def _spoken(
    logprobs: torch.Tensor,
    advantage: list[float],
    sampled: list[float] | None = None,
    trust: tuple[float, ...] = (1.0, 1.0, 1.0),
    baseline: float = 0.0,
) -> Spoken:
    """Two utterances, of two tokens and of one."""
    return Spoken(
        logprobs=logprobs,
        sampled=logprobs.detach().clone() if sampled is None else torch.tensor(sampled),
        trust=torch.tensor(trust),
        advantage=torch.tensor(advantage)[torch.tensor([0, 0, 1])],
        baseline=torch.full((3,), baseline),
        utterances=2,
        unit=2.0,
    )


def _gradient(method: Any, spoken: Spoken, config: ActorConfig) -> list[float]:
    spoken.logprobs.grad = None
    method.loss(spoken, config)[0].backward()
    assert spoken.logprobs.grad is not None
    return spoken.logprobs.grad.tolist()


LOGPROBS = [-1.0, -2.0, -4.0]


@pytest.fixture
def logprobs() -> torch.Tensor:
    return torch.tensor(LOGPROBS, requires_grad=True)


def test_the_names_in_the_settings_are_those_of_the_dictionary() -> None:
    hints = get_type_hints(ActorConfig)
    assert set(get_args(hints["method"])) == {*LOW_LEVELS, "none"}
    assert set(get_args(hints["advantage"])) == {*ADVANTAGES, *CREDITS, "none"}


def test_clipping_takes_the_lesser_gain(logprobs: torch.Tensor) -> None:
    # ratios 1.5, 1 and 0.5; A = 2 for the first two tokens, -1 for the third
    sampled = torch.tensor(LOGPROBS) - torch.tensor([1.5, 1.0, 0.5]).log()
    loss, metrics = clip_loss(logprobs, sampled, torch.tensor([2.0, 2.0, -1.0]), 2, clip=0.2)
    # min(3, 2.4) + min(2, 2) = 4.4;  min(-0.5, -0.8) = -0.8;  -(4.4 - 0.8) / 2
    assert loss.item() == pytest.approx(-1.8)
    assert metrics["clipped"] == pytest.approx(2 / 3)
    loss.backward()  # type: ignore[no-untyped-call]
    # A clipped token has no gradient, the other one -ρ A / N.
    assert logprobs.grad is not None and logprobs.grad.tolist() == pytest.approx([0.0, -1.0, 0.0])


def test_weighted_cloning_is_likelihood_times_weight(logprobs: torch.Tensor) -> None:
    loss, _ = weighted_cloning_loss(logprobs, torch.tensor([2.0, 2.0, 0.5]), 2)
    # -½ (2 · (-3) + ½ · (-4)) = 4
    assert loss.item() == pytest.approx(4.0)


def test_awr_weighs_by_the_exponential_up_to_a_cap(logprobs: torch.Tensor) -> None:
    config = ActorConfig(method="awr", beta=1.0, weight_cap=2.0)  # and advantages in units of 2
    # exp(½·1) = 1.65 and exp(½·3) = 4.48, capped at 2; the gradient of a token is -w / N
    found = _gradient(awr, _spoken(logprobs, [1.0, 3.0]), config)
    assert found == pytest.approx([-math.exp(0.5) / 2, -math.exp(0.5) / 2, -1.0])


def test_filtered_cloning_takes_what_is_above_the_threshold(logprobs: torch.Tensor) -> None:
    config = ActorConfig(method="filtered", threshold=1.0)
    assert _gradient(filtered, _spoken(logprobs, [1.0, 1.5]), config) == pytest.approx([0.0, 0.0, -0.5])


def test_ppo_at_its_first_step_is_reinforce(logprobs: torch.Tensor) -> None:
    spoken = _spoken(logprobs, [2.0, -1.0])
    config = ActorConfig(method="ppo", epochs=1)
    assert _gradient(ppo, spoken, config) == pytest.approx(_gradient(reinforce, spoken, config))


def test_tokens_of_another_engine_count_by_what_the_learner_finds_of_them() -> None:
    def said(learner: list[float], engine: list[float] | None) -> Utterance:
        given = None if engine is None else np.log(np.array(engine, np.float32))
        return Utterance(np.zeros(len(learner), np.int32), np.log(np.array(learner, np.float32)), "", given)

    found = engine_trust([said([0.5, 0.2, 0.9], [0.25, 0.4, 0.1]), said([0.3], None)], 3.0)
    assert found.tolist() == pytest.approx([2.0, 0.5, 3.0, 1.0])  # 0.9 / 0.1 = 9 is cut to 3


def test_policy_gradients_are_weighed_by_that_and_likelihoods_are_not(logprobs: torch.Tensor) -> None:
    config, trust = ActorConfig(method="ppo"), (2.0, 0.5, 1.5)
    spoken = _spoken(logprobs, [2.0, -1.0], trust=trust)
    # -w A / N: -2 · 2 / 2, -½ · 2 / 2, -1.5 · (-1) / 2
    assert _gradient(reinforce, spoken, config) == pytest.approx([-2.0, -0.5, 0.75])
    assert _gradient(ppo, spoken, config) == pytest.approx([-2.0, -0.5, 0.75])
    # -w (A - b) / N with b = 1
    less = _spoken(logprobs, [2.0, -1.0], trust=trust, baseline=1.0)
    assert _gradient(baseline, less, config) == pytest.approx([-1.0, -0.25, 1.5])
    # Ratios to the policy that played are 1.5, 1 and 0.5 as ever: what is clipped does not depend on the engine.
    moved = _spoken(
        logprobs, [2.0, -1.0], [p - math.log(r) for p, r in zip(LOGPROBS, (1.5, 1.0, 0.5), strict=True)], trust
    )
    # clipped; -w ρ A / N = -½ · 1 · 2 / 2; clipped
    assert _gradient(ppo, moved, config) == pytest.approx([0.0, -0.5, 0.0])
    for method in (awr, filtered, cloning):
        assert _gradient(method, spoken, config) == _gradient(method, _spoken(logprobs, [2.0, -1.0]), config)


@pytest.mark.parametrize(("method", "weighed"), [("reinforce", True), ("ppo", True), ("awr", False)])
def test_an_update_counts_what_another_engine_said_up_to_the_cap(
    method: Any, weighed: bool, agent: Agent, episodes: list[Episode]
) -> None:
    """The engine found all of it e times less likely than the learner: every token is at the cap."""

    def updated(cap: float, told: list[Episode]) -> dict[str, float]:
        own, replay = deepcopy(agent), Replay(1000)
        replay.add(told)
        config = ActorConfig(method=method, updates=1, batch_turns=8, demonstrations=0.0, ratio_cap=cap)
        return update_actor(own, None, replay, config, sampler=SiblingSampler(own.actor, SAMPLING), seed=[3])

    elsewhere = [episode.with_logprobs(episode.logprobs, engine=episode.logprobs - 1) for episode in episodes]
    here, one, two = updated(2.0, episodes), updated(1.0, elsewhere), updated(2.0, elsewhere)
    assert "actor/engine_capped" not in here
    assert one["actor/loss"] == here["actor/loss"]
    assert two["actor/loss"] == pytest.approx((2 if weighed else 1) * here["actor/loss"], rel=1e-5)
    assert two.get("actor/engine_capped") == (1.0 if weighed else None)


def test_one_sibling_and_v_give_the_papers_advantage() -> None:
    values = Values(
        q=torch.tensor([[5.0, 4.0]]),
        v=torch.tensor([[2.0, 3.0]]),
        q_siblings=torch.tensor([[[7.0, 6.0]]]),
        v_final=torch.zeros(1, 2),
        answers=torch.zeros(0),
        v_tokens=torch.zeros(0, 2),
    )
    assert value_advantage(values).tolist() == [[4.0]]  # min(7, 6) - min(2, 3)
    assert played_advantage(values).tolist() == [2.0]  # min(5, 4) - min(2, 3)


def test_siblings_are_compared_with_each_other() -> None:
    q = torch.tensor([[[1.0, 9.0], [4.0, 9.0], [9.0, 7.0]]])
    values = Values(q[:, 0], q[:, 0], q, q[:, 0], torch.zeros(0), torch.zeros(0, 2))
    # min Q: 1, 4, 7; minus the mean of the two others: 1 - 5.5, 4 - 4, 7 - 2.5
    assert siblings_advantage(values).tolist() == [[-4.5, 0.0, 4.5]]


def _moved(agent: Agent, episodes: list[Episode], reference: Actor | None, **settings: Any) -> dict[str, torch.Tensor]:
    """Where an update moves the actor's weights, and nothing else."""
    agent = deepcopy(agent)
    agent.actor_optimizer = make_optimizer(agent.actor, ActorConfig(matrix_lr=0.0))
    before = {name: p.detach().clone() for name, p in agent.actor.named_parameters()}
    critic = [p.detach().clone() for p in agent.learned_critic.parameters()]
    replay = Replay(1000)
    replay.add(episodes)
    config = ActorConfig(**{"updates": 1, "batch_turns": 12, "kl": 0.1, **FRESH, **settings})
    metrics = update_actor(agent, reference, replay, config, sampler=SiblingSampler(agent.actor, SAMPLING), seed=[3])
    assert all(math.isfinite(value) for value in metrics.values())
    assert ("actor/kl" in metrics) == (reference is not None)
    assert agent.policy_version == config.updates * config.epochs
    assert all(torch.equal(a, b) for a, b in zip(critic, agent.learned_critic.parameters(), strict=True))
    return {name: p.detach() - before[name] for name, p in agent.actor.named_parameters()}


@pytest.mark.parametrize(("method", "of"), [("reinforce", FRESH), ("ppo", FRESH), ("awr", {})])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(
    method: str, of: dict[str, Any], agent: Agent, episodes: list[Episode]
) -> None:
    replay = Replay(1000)
    replay.add(episodes)
    gradients, spreads = [], []
    for parts in (1, 3):
        own = deepcopy(agent)
        config = ActorConfig(
            **{"method": method, "updates": 1, "batch_turns": 12, "accumulation": parts, "kl": 0.1, **of}
        )
        found = update_actor(own, agent.actor, replay, config, sampler=SiblingSampler(own.actor, SAMPLING), seed=[3])
        spreads.append(found["actor/advantage_std"])
        gradients.append(torch.cat([p.grad.flatten() for p in own.actor.parameters() if p.grad is not None]))
    assert spreads[0] == pytest.approx(spreads[1], rel=0.05) and spreads[0] > 0  # parts are weighed by turns
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("method", LOW_LEVELS)
@pytest.mark.parametrize("anchored", [False, True])
def test_every_low_level_moves_the_actor_and_nothing_else(
    agent: Agent, episodes: list[Episode], method: str, anchored: bool
) -> None:
    reference = deepcopy(agent.actor).requires_grad_(False) if anchored else None
    extra = {"advantage": "none", "utterances": "played"} if method == "cloning" else {}
    moved = _moved(agent, episodes, reference, method=method, **extra)
    assert any(change.abs().max() > 0 for change in moved.values())


def test_an_update_of_ppo_with_one_epoch_is_one_of_reinforce(agent: Agent, episodes: list[Episode]) -> None:
    once = _moved(agent, episodes, None, method="ppo", epochs=1, clip_ratio=0.999)
    plain = _moved(agent, episodes, None, method="reinforce")
    for name, change in plain.items():
        # Adam's first step is the gradient's sign but where it is nearly nothing.
        assert (change - once[name]).abs().mean() < 1e-3 * change.abs().mean()


def _gradient_of_an_update(agent: Agent, episodes: list[Episode], **settings: Any) -> torch.Tensor:
    """What an update of a copy of the actor follows, at its full length."""
    own = deepcopy(agent)
    credit = settings.pop("credit", None)
    config = ActorConfig(**{"updates": 1, "batch_turns": 12, "clip": 1e9, **settings})
    own.actor_optimizer = make_optimizer(own.actor, config)
    replay = Replay(1000)
    replay.add(episodes)
    sampler = SiblingSampler(own.actor, SAMPLING)
    update_actor(own, None, replay, config, sampler=sampler, seed=[3], credit=credit)
    return torch.cat([p.grad.flatten() for p in own.actor.parameters() if p.grad is not None])


@pytest.mark.parametrize(("advantage", "share"), [(1.0, math.exp(-1)), (-1.0, 0.0)])
def test_ppo_weighs_and_clips_by_how_likely_tokens_were_when_they_were_said(
    agent: Agent, episodes: list[Episode], advantage: float, share: float
) -> None:
    """All tokens are e times less likely than they were. What was good counts 1/e as much; what was bad is less likely
    than 1 - ε of what it was, and is left alone."""
    likelier = [game.with_logprobs(game.logprobs + 1) for game in episodes]

    def gradient(method: str, games: list[Episode]) -> torch.Tensor:
        credit = {id(game): np.full(game.tokens_said, advantage, np.float32) for game in games}
        return _gradient_of_an_update(agent, games, method=method, utterances="played", credit=credit)

    plain = gradient("reinforce", episodes)
    assert (gradient("ppo", likelier) - share * plain).norm() < 1e-2 * plain.norm()


def test_an_update_with_one_sibling_and_v_is_the_papers(agent: Agent, episodes: list[Episode]) -> None:
    """L = -mean (min Q(s, ã) - min V(s)) Σ log π(ã), with the same ã drawn here and there."""
    found = _gradient_of_an_update(
        agent, episodes[:1], method="reinforce", utterances="fresh", advantage="value", siblings=1, batch_turns=1
    )
    batch = collate(episodes[:1], SiblingSampler(agent.actor, SAMPLING).sample(episodes[:1], 1, [3, 0]))
    with torch.no_grad():
        values = agent.learned_critic(batch)
    advantage = values.q_siblings[:, 0].amin(dim=-1) - values.v.amin(dim=-1)
    tokens = batch.sibling_tokens()
    logprobs = agent.actor.logprobs(batch, tokens)
    (-(advantage[tokens.utterance] * logprobs).sum() / len(batch.row)).backward()  # type: ignore[no-untyped-call]
    expected = torch.cat([p.grad.flatten() for p in agent.actor.parameters() if p.grad is not None])
    assert (found - expected).norm() < 1e-3 * expected.norm()


def test_the_penalty_brings_the_actor_back_to_its_reference(agent: Agent, episodes: list[Episode]) -> None:
    reference = deepcopy(agent.actor).requires_grad_(False)
    with torch.no_grad():
        for weight in agent.actor.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    replay = Replay(1000)
    replay.add(episodes)
    nothing = {id(game): np.zeros(game.tokens_said, np.float32) for game in episodes}  # to be gained by anything else
    sampler = SiblingSampler(agent.actor, SAMPLING)
    config = ActorConfig(method="reinforce", utterances="played", updates=1, batch_turns=100, kl=1.0)
    distances = [
        update_actor(agent, reference, replay, config, sampler=sampler, seed=[0], credit=nothing)["actor/kl"]
        for _ in range(20)
    ]
    assert distances[-1] < 0.5 * distances[0]


def test_more_epochs_take_more_steps_on_the_same_utterances(
    agent: Agent, episodes: list[Episode], sampled: list[int]
) -> None:
    once = _moved(agent, episodes, None, method="ppo")
    thrice = _moved(agent, episodes, None, method="ppo", epochs=3)
    assert len(sampled) == 2
    name = "model.model.embed_tokens.weight"
    assert thrice[name].abs().max() > 1.5 * once[name].abs().max()


def test_several_steps_on_the_same_utterances_are_for_ppo_alone() -> None:
    with pytest.raises(ValueError, match=r"epochs=2 takes several steps .* only method='ppo'"):
        ActorConfig(epochs=2)


def test_a_zero_baseline_is_reinforce(logprobs: torch.Tensor) -> None:
    spoken = _spoken(logprobs, [2.0, -1.0])
    assert _gradient(baseline, spoken, ActorConfig()) == _gradient(reinforce, spoken, ActorConfig())


def test_a_token_is_credited_with_what_the_baseline_did_not_expect(logprobs: torch.Tensor) -> None:
    spoken = dataclasses.replace(_spoken(logprobs, [2.0, -1.0]), baseline=torch.tensor([0.5, 2.0, -3.0]))
    # -(A - b) / N: -(2 - ½)/2, -(2 - 2)/2, -(-1 + 3)/2
    assert _gradient(baseline, spoken, ActorConfig()) == [-0.75, 0.0, -1.0]


def test_the_token_baseline_learns_the_advantage(agent: Agent, episodes: list[Episode]) -> None:
    agent.baseline = TokenBaseline.from_actor(agent.actor)
    agent.baseline_optimizer = make_optimizer(agent.baseline, BaselineConfig(lr=1e-2))
    agent.learned_critic.set_units(0.0, 5.0)
    replay = Replay(1000)
    replay.add(episodes)
    config = ActorConfig(method="baseline", updates=1, batch_turns=100, lr=1e-9, siblings=4)
    agent.actor_optimizer = make_optimizer(agent.actor, config)
    sampler = SiblingSampler(agent.actor, SAMPLING)
    errors = [
        update_actor(agent, None, replay, config, sampler=sampler, seed=[0])["actor/baseline_loss"] for _ in range(40)
    ]
    # The same utterances again and again, and an actor that stands still: what is left at the end is what their first
    # tokens cannot tell.
    assert errors[-1] < 0.5 * errors[0]


def test_cloning_is_the_likelihood_of_what_was_played(logprobs: torch.Tensor) -> None:
    spoken = dataclasses.replace(_spoken(logprobs, [0.0, 0.0]), advantage=torch.ones(3))
    loss, _ = cloning.loss(spoken, ActorConfig())
    assert loss.item() == pytest.approx(3.5)  # (1 + 2 + 4) / 2 utterances


def test_only_the_best_games_are_cloned(agent: Agent, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Episode] = []

    def look(batch: list[Episode], *rest: Any) -> Any:
        seen.extend(batch)
        return collate(batch, *rest)

    monkeypatch.setattr("archer.algorithms.actor.collate", look)
    settings = {"method": "cloning", "utterances": "best", "advantage": "none", "best": 0.3}
    _moved(agent, episodes, None, **settings)
    best = sorted(episodes, key=lambda episode: -episode.return_)[:2]  # 0.3 of 7
    assert {id(episode) for episode in seen} <= {id(episode) for episode in best} and seen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "cloning"}, "method='cloning' and advantage='none' go together"),
        ({"advantage": "none"}, "method='cloning' and advantage='none' go together"),
        ({"utterances": "fresh", "advantage": "gae"}, "set utterances='played'"),
        ({"advantage": "siblings"}, "what was played has none: set advantage='value'"),
        (FRESH | {"siblings": 1}, "siblings must be at least 2"),
        ({"method": "ppo", "utterances": "best", "advantage": "value"}, "clone them instead"),
        ({"method": "ppo", "utterances": "played", "advantage": "gae", "epochs": 2}, "raise updates instead"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActorConfig(**settings)
    ActorConfig(**{**settings, "method": "none"})  # an actor that stays as it is has no such worries


@pytest.mark.parametrize(("share", "shown"), [(0.0, 0), (0.25, 3), (1.0, 12)])
def test_demonstrations_have_their_share_of_every_batch(
    agent: Agent, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch, share: float, shown: int
) -> None:
    seen: list[list[Episode]] = []

    def look(batch: list[Episode], *rest: Any) -> Any:
        seen.append(batch)
        return collate(batch, *rest)

    monkeypatch.setattr("archer.algorithms.actor.collate", look)
    one_turn = [episode for episode in episodes if len(episode) == 1]
    played, demonstrations = Replay(1000), Replay(1000)
    played.add(dataclasses.replace(one_turn[0], policy_version=7) for _ in range(20))
    demonstrations.add(dataclasses.replace(one_turn[0], policy_version=-1) for _ in range(20))
    config = ActorConfig(updates=2, batch_turns=12, demonstrations=share)
    sampler = SiblingSampler(agent.actor, SAMPLING)
    update_actor(agent, None, played, config, sampler=sampler, seed=[0], demonstrations=demonstrations)
    assert [sum(game.policy_version == -1 for game in batch) for batch in seen] == [shown, shown]
    assert [len(batch) for batch in seen] == [12, 12]


def test_advantages_with_a_scale_of_their_own_are_not_scaled_again(agent: Agent, episodes: list[Episode]) -> None:
    """Whitened ones weigh the same whatever the size of the task's rewards."""
    credit = {id(game): np.linspace(-0.1, 0.1, game.tokens_said, dtype=np.float32) for game in episodes}
    gradients = []
    for unit in (1.0, 35.0):
        scaled = deepcopy(agent)
        scaled.learned_critic.set_units(0.0, unit)
        settings = {"method": "awr", "utterances": "played", "advantage": "gae", "credit": credit}
        gradients.append(_gradient_of_an_update(scaled, episodes, **settings))
    assert torch.equal(*gradients) and gradients[0].any()
