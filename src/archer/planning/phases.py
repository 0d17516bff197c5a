"""The course of a run's memory: everything that it does once, in order, from its start to an update of the actor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import nn

from archer import devices
from archer.algorithms import likelihood
from archer.algorithms.actor import update_actor
from archer.algorithms.credit import CREDITS
from archer.algorithms.critic import start_critic, update_critic
from archer.algorithms.high import HIGH_LEVELS
from archer.algorithms.supervised import clone
from archer.algorithms.target_values import KeptValues
from archer.config import CloningConfig, ClusterConfig, OptimizerConfig, RunConfig
from archer.devices.sharding import copy_of, put_together
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.models.batch import collate
from archer.models.critic import values_in_parts
from archer.models.lora import Adapted
from archer.models.packing import in_parts
from archer.planning.agents import Shapes, make_actor, make_critic
from archer.planning.course import Course, Phase
from archer.planning.games import Games
from archer.planning.playing import Players, PretendedSampler
from archer.planning.pretending import Trace
from archer.planning.sizes import given_back, make_states, size_of, states_of
from archer.replay import Replay
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import ROWS, SiblingSampler
from archer.run import equip, settle
from archer.types import moment

T = TypeVar("T")

SEED = [0]


class Account(AbstractContextManager[Any], Protocol):
    """Who keeps account of memory: ``Pretending``, or whoever holds what it says against a real run."""

    def making(self) -> AbstractContextManager[None]:
        """Within, networks are made."""
        ...

    def course(self, run: Callable[[], Any]) -> Trace:
        """What ``run`` takes."""
        ...


class Rehearsal:
    """A run, gone through once, usually on tensors that have no numbers."""

    steps = 1
    """Gradient steps of a start; whoever goes through it for real takes two, the second of which finds states."""

    def __init__(self, config: RunConfig, shapes: Shapes, games: Games, account: Account) -> None:
        self.settings = config
        # Small or not, they are counted as float32 and taken off again: no package is asked for what only takes room.
        plain = {name: dataclasses.replace(part, states="float32") for name, part in config.optimized.items()}
        alone = ClusterConfig()  # whoever plays elsewhere needs nothing here
        self.config = dataclasses.replace(config, device="cpu", cluster=alone, **cast(Any, plain))
        self._shapes, self._games, self._account = shapes, games, account
        self._players = Players(config.device)
        self._phases: list[Phase] = []

    def course(self) -> Course:
        """From the start on."""
        with self._account:
            actor = self._make("loading the actor", self._load)
            self._start(actor)
            agent, anchor = self._make("making the critic", lambda: self._equip(actor))
            self._start_values(agent)
            self._iterate(agent, anchor)
            return self._sum_up(agent, anchor)

    def _make(self, name: str, make: Callable[[], T]) -> T:
        """Networks, which are whole for a moment before they are cut into shards."""
        made: list[T] = []
        with self._account.making():
            self._add(name, lambda: made.append(make()), {})
        return made[0]

    def _load(self) -> Actor:
        actor = make_actor(self.config, self._shapes)
        settle(self.config, actor)
        return actor

    def _equip(self, actor: Actor) -> tuple[Agent, Actor | None]:
        agent = equip(self.config, actor, make_critic(self.config, self._shapes, actor))
        if not self.config.actor.anchored:
            return agent, None
        anchor = copy_of(actor).requires_grad_(False)
        settle(self.config, anchor)
        return agent, anchor

    def sampler(self, actor: Actor) -> SiblingSampler:
        """Who draws utterances."""
        return PretendedSampler(actor, Sampling.of(self.config.rollout), self._players)

    def _start(self, actor: Actor) -> None:
        """The supervised start."""
        config = self.config.supervised
        if not (config.epochs and self._demonstrated):
            return
        games = self._games.several(config.batch_games)
        self._add("supervised start", lambda: self._clone(actor, games, config), {actor: self.settings.supervised})

    def _start_values(self, agent: Agent) -> None:
        """The starts of the critic and, by its values, of the actor."""
        config = self.config
        if agent.critic is None or not self._demonstrated:
            return
        if config.critic_start.epochs:
            games = self._games.several(config.critic_start.batch_games)
            once = dataclasses.replace(config.critic_start, epochs=1, batch_games=len(games))
            self._add(
                "critic start",
                lambda: start_critic(agent, games * self.steps, once, config.critic, seed=SEED, report=_nobody),
                {agent.critic: self.settings.critic_start},
            )
        if config.actor_start.epochs:
            games = self._games.several(config.actor_start.batch_games)
            self._add(
                "actor start",
                lambda: self._clone(agent.actor, games, config.actor_start),
                {agent.actor: self.settings.actor_start},
            )

    def _clone(self, actor: Actor, games: list[Any], config: CloningConfig) -> None:
        once = dataclasses.replace(config, epochs=1, batch_games=len(games))
        clone(actor, games * self.steps, once, seed=SEED, report=_nobody)

    def _iterate(self, agent: Agent, anchor: Actor | None) -> None:
        """One iteration, with what the one before left."""
        config = self.config
        learned: dict[nn.Module, OptimizerConfig] = {}
        sampler = self.sampler(agent.policy)
        for network, optimizer, part in (
            (agent.critic, agent.critic_optimizer, self.settings.critic),
            (agent.actor if config.actor.method != "none" else None, agent.actor_optimizer, self.settings.actor),
            (agent.baseline, agent.baseline_optimizer, self.settings.baseline),
        ):
            if network is not None and optimizer is not None:
                make_states(optimizer)  # the first iteration makes them, all others find them
                learned[network] = part
        if config.rollout.games:
            self._add("playing", lambda: self.play(agent), learned)
        if agent.critic is not None:
            self._add("looking at the critic", lambda: self._judge(agent), learned)
        for name, update in self._learning(agent, anchor, sampler):
            self._add(name, update, learned)
            agent.release_gradients()

    def _learning(
        self, agent: Agent, anchor: Actor | None, sampler: SiblingSampler
    ) -> list[tuple[str, Callable[[], None]]]:
        """The updates of an iteration, of one step each."""
        config, games = self.config, self._games
        found: list[tuple[str, Callable[[], None]]] = []
        if agent.critic is not None:
            critic_games = games.batch(config.critic.batch_turns)
            critic_config = dataclasses.replace(config.critic, updates=1, demonstrations=0.0)

            def update_values() -> None:
                self._ask(agent, sampler)
                replay = _holding(critic_games)
                kept = KeptValues(config.critic.keep_values) if config.critic.keep_values else None
                update_critic(agent, replay, critic_config, sampler=sampler, seed=SEED, kept=kept)

            found.append(("critic update", update_values))
        if config.actor.method != "none":
            actor_games = games.batch(config.actor.batch_turns)
            actor_config = dataclasses.replace(config.actor, updates=1, epochs=1, demonstrations=0.0)
            credit = None
            if config.actor.advantage in CREDITS:
                credit = {id(game): np.zeros(game.tokens_said, np.float32) for game in actor_games}

            def update_policy() -> None:
                replay = _holding(actor_games)
                update_actor(agent, anchor, replay, actor_config, sampler=sampler, seed=SEED, credit=credit)

            found.append(("actor update", update_policy))
        return found

    def _ask(self, agent: Agent, sampler: SiblingSampler) -> None:
        """What is asked once for all updates of the critic, of as many games as go into one pass."""
        high = HIGH_LEVELS[self.config.critic.method]
        if self.config.critic.keep_values:
            KeptValues(1).prepare(agent, high, sampler, [self._games.batch(ROWS)], SEED)
            return
        if high.resamples:
            sampler.sample(self._games.batch(ROWS), 1, SEED)
        if high.reweighs:
            likelihood.policy_ratios(agent.policy, self._games.one_pass())

    def play(self, agent: Agent) -> None:
        """This process' share of an iteration's games, by whoever plays them."""
        rollout = self.config.rollout
        actor = agent.behavior or agent.policy
        rows = min(rollout.parallel, -(-rollout.games // devices.count()))
        if not rollout.best_of:
            first = max(len(game.turns[0].prompt_ids) for game in self._games.pool)
            with put_together(actor):
                self._players.converse(actor, rows, rollout.max_tokens, first)
            return
        with put_together(actor, agent.learned_critic):
            self._choose(agent, actor, rows)

    def _choose(self, agent: Agent, actor: Actor, rows: int) -> None:
        """An utterance for each of so many long games, of those among which the critic chooses."""
        rollout = self.config.rollout
        sampler = self.sampler(actor)
        self._players.refresh(actor)
        longest = min(self._games.longest, rollout.max_tokens - rollout.utterance_tokens)
        states = [np.full(max(1, longest), number, np.int32) for number in range(rows)]
        groups = sampler.at(states, rollout.best_of, [SEED] * rows)
        cut = [moment(state, group[0]) for state, group in zip(states, groups, strict=True)]
        offered = [[group] for group in groups]
        part = in_parts(cut, offered)[0]  # all are alike
        with torch.no_grad():
            agent.learned_critic(collate(cut[part], offered[part]))

    def _judge(self, agent: Agent) -> None:
        """What an iteration's log says of the critic."""
        by_token = self.config.critic.method == "tokens"
        for _ in values_in_parts(agent.learned_critic, self._games.one_pass(), by_token=by_token):
            pass

    @property
    def _demonstrated(self) -> bool:
        """Whether there are demonstrations."""
        wanted = self.config.demonstrations
        return bool(wanted.files or wanted.games) and self.config.start_from is None

    def _add(self, name: str, run: Callable[[], Any], learned: dict[nn.Module, OptimizerConfig]) -> None:
        """Go through a phase; ``learned`` are the networks whose optimizer states are there.

        A start has an optimizer of its own, whose second step finds what the first, which is gone through, leaves.
        """
        small = sum(given_back(network, part)[0] for network, part in learned.items())
        trace = self._account.course(run)
        begun = name.endswith("start")
        coming = sum(states_of(network, part) for network, part in learned.items()) if begun else 0
        peaks = tuple(peak - small for peak in trace.peaks(coming))
        self._phases.append(Phase(name, trace.live[0] - (0 if begun else small), peaks))

    def _sum_up(self, agent: Agent, anchor: Actor | None) -> Course:
        """What there is at the end."""
        named: dict[str, nn.Module | None] = {
            "actor": agent.actor, "critic": agent.critic, "target critic": agent.target_critic,
            "running mean of the actor": agent.mean, "actor that plays": agent.behavior, "anchor": anchor,
            "token baseline": agent.baseline,
        }  # fmt: skip
        networks = {name: size_of(network.state_dict().values()) for name, network in named.items() if network}
        if isinstance(agent.actor.model, Adapted):
            whole = agent.actor.model.base.model
            adapters = [p for name, p in whole.named_parameters() if "lora_" in name]
            networks = {"frozen model": size_of(whole.parameters()) - size_of(adapters)} | networks
        states: dict[str, int] = {}
        beside = 0
        for name, network, optimizer, part in (
            ("actor", agent.actor, agent.actor_optimizer, self.settings.actor),
            ("critic", agent.critic, agent.critic_optimizer, self.settings.critic),
            ("token baseline", agent.baseline, agent.baseline_optimizer, self.settings.baseline),
        ):
            if network is not None and optimizer is not None:
                saved, hosted = given_back(network, part)
                kept = size_of(
                    value for one in optimizer.parts for state in one.state.values() for value in state.values()
                )
                states[name] = kept - saved if kept else 0
                beside += hosted
        return Course(networks, states, beside, tuple(self._phases))


def _holding(games: list[Any]) -> Replay:
    replay = Replay(sum(len(game) for game in games))
    replay.add(games)
    return replay


def _nobody(metrics: dict[str, float]) -> None:
    """Hears what nobody needs."""
