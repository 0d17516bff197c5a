"""The state of a run: networks, replay and counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial

import torch
from torch import nn

from archer import devices
from archer.algorithms.target_values import KeptValues
from archer.beginning import begin_critic, load_actor
from archer.config import RunConfig
from archer.devices.quantised import check_states
from archer.devices.sharding import copy_of
from archer.envs import Factory, make_factory, task_name
from archer.envs.base import Environment
from archer.envs.hosting import Hosting
from archer.evaluation import reference_return
from archer.health.critic import LOGGED_GAMES
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import Critic
from archer.models.placing import cut
from archer.models.token_baseline import TokenBaseline
from archer.replay import Replay
from archer.rollout.best_of import player_of
from archer.rollout.company import Company
from archer.rollout.layouts import layout_of
from archer.rollout.play import Limits, host
from archer.rollout.prompts import LayoutMaker
from archer.rollout.sampling import Sampling
from archer.rollout.sharing import play_shared
from archer.rollout.siblings import SiblingSampler
from archer.rollout.speaking import Speaker
from archer.storage.checkpoint import FIRST
from archer.storage.runfolder import RunFolder
from archer.types import Episode

NO_TASK = "conversations"
"""What the task of a run without an environment is called."""


class Stage(IntEnum):
    """How far a run has come with what it learns before its first game."""

    CLONED = 1
    """Its supervised start is behind it, where it has one."""
    MEASURED = 2
    """Its critic has begun, and the start is measured."""
    READY = 3

    @property
    def measurements(self) -> int:
        """Most lines of metrics that are before it."""
        return self - 1


@dataclass
class Run:
    """Everything that a run carries from one iteration to the next."""

    config: RunConfig
    folder: RunFolder
    task: str
    make_env: Callable[[], Environment] | None
    """None where the run learns from files alone."""
    environments: Hosting | None
    """The same copies, as they are played with: in threads or processes, with a limit of time."""
    agent: Agent
    replay: Replay
    sampler: SiblingSampler
    engine: Speaker
    """What says the utterances of games; siblings are the sampler's."""
    demonstrations: Replay | None = None
    """Where critic or actor go on learning from them."""
    held_out: Sequence[Episode] = ()
    """Demonstrations that nothing but the critic's health is taken from, where no game is played that it could be."""
    kept_values: KeptValues | None = None
    """Where the target critic is not asked at every step."""
    anchor: Actor | None = None
    """The actor before the first game, where it is held near that."""
    stage: Stage = Stage.READY
    iteration: int = 0
    """Iterations done."""
    games_before: int = 0
    """Games played by the run that this one goes on from."""
    skipped: int = 0
    """Malformed conversations of its files that were left out."""
    demonstrated: int = 0
    """Demonstrations that it began with."""
    inherited: bool = False
    """Whether the critic is that of the run which this one goes on from, and has no start of its own to make."""
    company: Company | None = None
    """Who plays, where that is not done here."""

    @property
    def games(self) -> int:
        """Games played for training so far, warm-up included."""
        return self.games_before + self.iteration * self.config.rollout.games

    @cached_property
    def reference_return(self) -> float | None:
        """The best known return of the task, which whoever knows it may have to play for; None where nobody does."""
        return None if self.make_env is None else reference_return(self.make_env)

    @property
    def sampling(self) -> Sampling:
        return self.sampler.sampling

    @property
    def layout(self) -> LayoutMaker:
        return layout_of(self.config.rollout)

    @property
    def limits(self) -> Limits:
        return Limits.of(self.config.rollout)

    def player(self, best_of: int) -> Callable[..., list[Episode]]:
        """How to play: the policy's first word, or the critic's choice among ``best_of`` of them; here, shared with the
        other processes, or elsewhere."""
        if self.company is not None:
            return self.company.player(best_of, self.agent.critic)
        asked = (self.agent.learned_critic,) if best_of else ()
        return partial(play_shared, player_of(best_of, self.agent.critic, self.engine), asked)


def prepare(config: RunConfig) -> None:
    """Settings of the process: threads, and a generator that no run should depend on but a model's dropout may.

    ValueError where the device cannot do what the settings ask of it.
    """
    check_states({part.states for part in config.optimized.values()}, config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)


def settle(config: RunConfig, network: nn.Module) -> None:
    """Let a network lie as the settings want it, before an optimizer is made for it."""
    if config.model.sharding == "full" and devices.count() > 1:
        cut(network)


def assemble(
    config: RunConfig,
    folder: RunFolder,
    target: str | Factory | None,
    actor: Actor,
    demonstrations: Sequence[Episode],
    engine: Speaker,
) -> Run:
    """A run at iteration 0 around a trained or untrained actor, with everything else fresh."""
    make_env = None if target is None else make_factory(target, config.env.options)
    critic = None if config.critic.method == "none" else begin_critic(config, actor, demonstrations)
    agent = equip(config, actor, critic)
    return Run(
        config=config,
        folder=folder,
        task=NO_TASK if target is None else task_name(target),
        make_env=make_env,
        environments=None if make_env is None else _host(make_env, config),
        agent=agent,
        replay=Replay(config.replay_turns),
        sampler=SiblingSampler(agent.policy, Sampling.of(config.rollout)),
        engine=engine,
        kept_values=KeptValues(config.critic.keep_values) if config.critic.keep_values else None,
    )


def equip(config: RunConfig, actor: Actor, critic: Critic | None) -> Agent:
    """Everything that learns with an actor and a critic, or is kept beside them."""
    settle(config, actor)
    agent = Agent(actor=actor, actor_optimizer=make_optimizer(actor, config.actor))
    if critic is not None:
        settle(config, critic)
        agent.critic = critic
        agent.target_critic = critic.target()  # only now, so that no more than one of them is whole at a time
        settle(config, agent.target_critic)
        agent.critic_optimizer = make_optimizer(critic, config.critic)
    if config.actor.averages:
        agent.mean = copy_of(actor).requires_grad_(False)
        settle(config, agent.mean)
    if config.rollout.overlap:
        agent.behavior = copy_of(actor).requires_grad_(False)  # whole: it plays while others learn
    if config.actor.method == "baseline":
        agent.baseline = TokenBaseline.from_actor(actor).to(config.device)
        agent.baseline.value.set_units(0.0, agent.learned_critic.unit)  # advantages lie around 0
        settle(config, agent.baseline)
        agent.baseline_optimizer = make_optimizer(agent.baseline, config.baseline)
    return agent


def _host(make_env: Callable[[], Environment], config: RunConfig) -> Hosting:
    """Copies to play with; where players elsewhere have theirs, none that wait here in processes of their own."""
    return Hosting(make_env) if config.cluster.chunk else host(make_env, config.rollout)


def hold_out(config: RunConfig, episodes: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """Demonstrations to learn values from, and those to measure the critic on where no games are played: one in twenty,
    as many as are measured of games at most, from all over the files, which may be in some order."""
    measured = 0 if config.rollout.games or config.critic.method == "none" else min(LOGGED_GAMES, len(episodes) // 20)
    chosen = {len(episodes) * number // measured for number in range(measured)}
    return (
        [episode for index, episode in enumerate(episodes) if index not in chosen],
        [episode for index, episode in enumerate(episodes) if index in chosen],
    )


def keep_demonstrations(run: Run, episodes: Callable[[], Sequence[Episode]]) -> None:
    """Let critic and actor go on learning from demonstrations, where they are to."""
    if (run.config.critic.demonstrations or run.config.actor.demonstrations) and (kept := episodes()):
        learned, run.held_out = hold_out(run.config, kept)
        run.demonstrations = Replay(sum(len(episode) for episode in learned))
        run.demonstrations.add(learned)


def attach_anchor(run: Run) -> None:
    """Load the actor before the first game where it is to be held near that."""
    if run.config.actor.anchored:
        anchor = load_actor(run.config, run.folder.checkpoints / FIRST, beside=run.agent.actor)
        run.anchor = anchor.requires_grad_(False)
        settle(run.config, run.anchor)
