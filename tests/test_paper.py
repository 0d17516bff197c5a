"""The paper's algorithm, written down once more in the plainest way, and that the library with its preset does just
that; and which settings of `archer` are all that stands between the two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archer.algorithms.actor import update_actor
from archer.algorithms.critic import update_critic
from archer.cli.commands import Train
from archer.cli.training import settings
from archer.config import RunConfig, TinyConfig
from archer.config.layers import ConfigError
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.encoder_critic import EncoderCritic
from archer.replay import Replay
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode, Turn, Utterance
from tests.conftest import SAMPLING

SWITCHED_OFF = (
    "critic_start.epochs=0", "actor_start.epochs=0",  # nothing is learned from rewards before the first game
    "critic.demonstrations=0.0", "actor.demonstrations=0.0",  # nor from demonstrations later
    "rollout.best_of=0",  # the critic does not choose what is played
    "critic.method=td", "critic.trace=0.0",  # one step, V from resampled utterances
    "critic.answer_weight=0.0", "supervised.answer_weight=0.0",  # answers are not predicted
    "actor.method=reinforce", "actor.utterances=fresh", "actor.siblings=1", "actor.average=0.0",
    "supervised.matrix_lr=0.0", "critic.matrix_lr=0.0", "actor.matrix_lr=0.0",  # AdamW alone
    "model.critic=encoder", "rollout.layout=plain",
)  # fmt: skip
"""Each lever that `archer` has beyond the paper, off."""
SIZES = (
    "model.actor=gpt2", "model.critic_model=roberta-base", "model.tiny.layers=2", "model.tiny.vocabulary=2048",
    "demonstrations.games=12000",
    "supervised.batch_games=32", "supervised.lr=1e-4", "supervised.epochs=4",
    "rollout.games=128", "rollout.utterance_tokens=32", "rollout.max_tokens=1024",
    "critic.updates=50", "critic.batch_turns=256", "critic.lr=2e-5", "critic.weight_decay=0.01", "critic.discount=0.95",
    "actor.updates=3", "actor.batch_turns=256", "actor.accumulation=32", "actor.newest_turns=100000", "actor.lr=1e-6",
    "actor.weight_decay=0.01", "eval.every=25", "eval.games=1000", "replay_turns=100000", "warmup=20",
    "iterations=600",
)  # fmt: skip
"""The published models, sizes and rates."""

Siblings = list[list[list[Utterance]]]


def _published() -> RunConfig:
    return settings(Train(preset="archer-paper", env="twenty-questions"))


def test_archer_without_its_levers_is_the_papers() -> None:
    """One mechanism each: whoever adds another must be able to switch it off, and the paper's preset must do so."""
    reduced = settings(Train(preset="archer", env="twenty-questions", set=(*SWITCHED_OFF, *SIZES)))
    assert dataclasses.replace(reduced, preset="archer-paper") == _published()


@pytest.mark.parametrize("switch", SWITCHED_OFF)
def test_every_lever_is_one(switch: str) -> None:
    """None of the switches above is idle."""
    others = tuple(other for other in SWITCHED_OFF if other != switch)
    with suppress(ConfigError):  # some are no combination alone
        found = settings(Train(preset="archer", env="twenty-questions", set=(*others, *SIZES)))
        assert dataclasses.replace(found, preset="archer-paper") != _published()


@pytest.fixture
def paper(agent: Agent, actor: Actor) -> Agent:
    """The agent of these tests with the paper's critic."""
    critic = EncoderCritic.build(None, actor, TinyConfig(), seed=5)
    config = _fast(_published())
    return Agent(
        actor=agent.actor,
        actor_optimizer=make_optimizer(agent.actor, config.actor),
        critic=critic,
        target_critic=critic.target(),
        critic_optimizer=make_optimizer(critic, config.critic),
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Episode], Siblings]]:
    """The games that siblings were asked for and those that were drawn, call by call."""
    calls: list[tuple[list[Episode], Siblings]] = []
    original = SiblingSampler.sample

    def sample(self: SiblingSampler, episodes: Sequence[Episode], count: int, seed: Sequence[int]) -> Siblings:
        found = original(self, episodes, count, seed)
        calls.append((list(episodes), found))
        return found

    monkeypatch.setattr(SiblingSampler, "sample", sample)
    return calls


def _fast(config: RunConfig) -> RunConfig:
    """The published settings with steps that show and batches that these few games fill."""
    return dataclasses.replace(
        config,
        critic=dataclasses.replace(config.critic, lr=1e-3, updates=3, batch_turns=12),
        actor=dataclasses.replace(config.actor, lr=1e-3, updates=3, batch_turns=12, accumulation=2),
    )


def _encoded(critic: Any, text: str) -> Tensor:
    ids = critic.tokenizer(text or " ", return_tensors="pt")
    found: Tensor = critic.encoder(input_ids=ids["input_ids"]).pooler_output[0]
    return found


def _head(heads: Any, number: int, features: Tensor) -> Tensor:
    first, second, last = heads.first[number], heads.second[number], heads.last[number]
    found: Tensor = last(torch.relu(second(torch.relu(first(features)))))[0]
    return found


def _q(critic: Any, number: int, state: str, said: str) -> Tensor:
    return _head(critic.q, number, torch.cat([_encoded(critic, state), _encoded(critic, said)]))


def _v(critic: Any, number: int, state: str) -> Tensor:
    return _head(critic.v, number, _encoded(critic, state))


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _turns(episodes: Sequence[Episode], said: Callable[[Episode], list[list[Utterance]]]) -> Any:
    """Every transition (s, a, r, s', d) as the paper has it, with ã and the turn that it is of."""
    for episode in episodes:
        for t, turn in enumerate(episode.turns):
            last = t == len(episode) - 1
            after = episode.final_prompt_ids if last else episode.turns[t + 1].prompt_ids
            yield turn, after, last and episode.terminated, said(episode)[t][0]


def _alike(found: nn.Module, wanted: nn.Module, before: nn.Module) -> None:
    moved = 0.0
    for mine, theirs, old in zip(found.parameters(), wanted.parameters(), before.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=2e-5), (mine - theirs).abs().max()
        moved = max(moved, float((theirs - old).detach().abs().max()))
    assert moved > 5e-4  # ten times as far as the two may differ


def test_the_critics_updates_are_the_papers(paper: Agent, episodes: list[Episode], drawn: Any) -> None:
    config = _fast(_published()).critic
    critic, target, before = (deepcopy(paper.critic) for _ in range(3))
    assert critic is not None and target is not None and before is not None and paper.critic is not None
    optimizer = torch.optim.AdamW(critic.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    replay = Replay(1000)
    replay.add(episodes)
    update_critic(paper, replay, config, sampler=SiblingSampler(paper.actor, SAMPLING), seed=[7])

    [(games, siblings)] = drawn  # for all steps at once: the actor stands still meanwhile
    said = {id(game): own for game, own in zip(games, siblings, strict=True)}
    read = paper.actor.decode
    generator = np.random.default_rng([7])
    for batch in [replay.sample(config.batch_turns, generator) for _ in range(config.updates)]:
        losses = []
        for turn, after, done, other in _turns(batch, lambda episode: said[id(episode)]):
            s, a, next_s = _text(paper.actor, turn.prompt_ids), turn.utterance.text, _text(paper.actor, after)
            for i in (0, 1):
                with torch.no_grad():
                    q_target = turn.reward + config.discount * (1 - done) * _v(target, i, next_s)
                    v_target = _q(target, i, s, read(other.ids))
                losses.append((_q(critic, i, s, a) - q_target) ** 2 + (_v(critic, i, s) - v_target) ** 2)
        _step(critic, optimizer, torch.stack(losses).sum() / (len(losses) / 2))
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                slow.copy_((1 - config.polyak) * slow + config.polyak * fast)
    _alike(paper.critic, critic, before)
    assert paper.target_critic is not None
    for mine, theirs in zip(paper.target_critic.parameters(), target.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=2e-5)


def test_the_actors_updates_are_the_papers(paper: Agent, episodes: list[Episode], drawn: Any) -> None:
    config = _fast(_published()).actor
    actor, before = deepcopy(paper.actor), deepcopy(paper.actor)
    optimizer = torch.optim.AdamW(actor.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    replay = Replay(1000)
    replay.add(episodes)
    update_actor(paper, None, replay, config, sampler=SiblingSampler(paper.actor, SAMPLING), seed=[8])

    critic = paper.critic
    assert len(drawn) == config.updates  # fresh ones of the policy as it then is, for every step
    for games, siblings in drawn:
        losses = []
        said = {id(game): own for game, own in zip(games, siblings, strict=True)}
        for turn, _, _, fresh in _turns(games, lambda episode, said=said: said[id(episode)]):  # type: ignore[misc]
            s = _text(actor, turn.prompt_ids)
            with torch.no_grad():
                q = min(_q(critic, i, s, fresh.text) for i in (0, 1))
                advantage = q - min(_v(critic, i, s) for i in (0, 1))
            losses.append(-advantage * _logprob(actor, turn, fresh))
        _step(actor, optimizer, torch.stack(losses).mean())
    _alike(paper.actor, actor, before)


def _text(actor: Actor, ids: Any) -> str:
    return str(actor.tokenizer.decode(ids.tolist(), skip_special_tokens=True))


def _logprob(actor: Actor, turn: Turn, said: Utterance) -> Tensor:
    """Σ log π(token | state, tokens before), the stop token included."""
    ids = torch.tensor([[*turn.prompt_ids.tolist(), *said.ids.tolist()]])
    logits = actor.model(input_ids=ids).logits[0, len(turn.prompt_ids) - 1 : -1]
    found: Tensor = logits.log_softmax(-1)[torch.arange(len(said.ids)), ids[0, len(turn.prompt_ids) :]].sum()
    return found
