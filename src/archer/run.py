"""The state of a run: networks, replay and counters, how they begin, and how they are saved and brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from archer.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    load_module,
    load_optimizers,
    save_checkpoint,
    save_module,
    save_optimizers,
)
from archer.config import RunConfig
from archer.envs import Factory, make_factory, task_name
from archer.envs.base import Demonstrated, Environment, ScriptedGame, play_scripted_games
from archer.files import write_json
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import CausalCritic, Critic
from archer.models.encoder_critic import EncoderCritic
from archer.models.tiny import build_tiny_actor
from archer.replay import Replay
from archer.returns import lambda_returns
from archer.rollout.demonstrations import texts, to_episode
from archer.rollout.engine import Sampling
from archer.rollout.play import Limits
from archer.rollout.prompts import LAYOUTS, PlainText, line_breaks
from archer.rollout.siblings import SiblingSampler
from archer.runfolder import RunFolder
from archer.storage import read_shard, shard_path
from archer.types import Episode

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
START = "000000"
"""The checkpoint of the supervised start."""


@dataclass
class Run:
    """Everything that a run carries from one iteration to the next."""

    config: RunConfig
    folder: RunFolder
    task: str
    make_env: Callable[[], Environment]
    agent: Agent
    replay: Replay
    sampler: SiblingSampler
    demonstrations: Replay | None = None
    """The demonstrator's games, where the critic goes on learning from them."""
    anchor: Actor | None = None
    """The supervised start, where the actor is held near it."""
    iteration: int = 0
    """Iterations done."""

    @property
    def games(self) -> int:
        """Games played for training so far, warm-up included."""
        return self.iteration * self.config.rollout.games

    @property
    def sampling(self) -> Sampling:
        return self.sampler.sampling

    @property
    def layout(self) -> type[PlainText]:
        return LAYOUTS[self.config.rollout.layout]

    @property
    def limits(self) -> Limits:
        return Limits.of(self.config.rollout)


def prepare(config: RunConfig) -> None:
    """Settings of the process: threads, and a generator that no run should depend on but a model's dropout may."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)


def play_demonstrations(config: RunConfig, env: Environment) -> list[ScriptedGame]:
    """The scripted demonstrator's games; none where the task has no demonstrator or none are asked for."""
    if not config.supervised.games:
        return []
    if not isinstance(env, Demonstrated):
        raise ValueError(
            f"supervised.games={config.supervised.games}, but the task {config.env.name!r} has no demonstrator(seed); "
            "set supervised.games to 0 and name a model in model.actor"
        )
    seeds = [demonstration_seed(config.seed, game) for game in range(config.supervised.games)]
    return play_scripted_games(env, env.demonstrator, seeds)


def demonstration_seed(run_seed: int, game: int) -> int:
    """Seed of a demonstration: even, like training games, in a range of its own."""
    return 2 * (1_000_000_000_000 + run_seed * 10_000_019 + game)


def begin_actor(config: RunConfig, games: Sequence[ScriptedGame]) -> Actor:
    """The actor before any training."""
    if config.model.actor is not None:
        actor = Actor.from_pretrained(config.model.actor)
    elif not games:
        raise ValueError("model.actor is not set and there are no demonstrations to make the built-in tiny model from")
    else:
        tiny = config.model.tiny
        actor = build_tiny_actor(
            texts(games, LAYOUTS[config.rollout.layout]),
            layers=tiny.layers,
            width=tiny.width,
            heads=tiny.heads,
            context=config.rollout.max_tokens,
            vocabulary=tiny.vocabulary,
            seed=config.seed,
        )
    if actor.context is not None and actor.context < config.rollout.max_tokens:
        raise ValueError(
            f"rollout.max_tokens={config.rollout.max_tokens} is more than the model can read ({actor.context} tokens)"
        )
    if LAYOUTS[config.rollout.layout].one_line:
        if any("\n" in utterance for game in games for utterance in game.utterances):
            raise ValueError(
                f"rollout.layout={config.rollout.layout!r} is for utterances of one line, but the demonstrator's have "
                "line breaks; choose another layout"
            )
        actor.suppress(line_breaks(actor.tokenizer))
    actor.precision = PRECISIONS[config.model.precision]
    return actor.to(config.device)


def begin_critic(config: RunConfig, actor: Actor, demonstrations: Sequence[Episode]) -> Critic:
    """A fresh critic; with demonstrations, its unit is the spread of their discounted returns."""
    torch.manual_seed(config.seed)  # heads are initialised at random
    critic: Critic
    if config.model.critic == "encoder":
        critic = EncoderCritic.build(config.model.critic_model, actor, seed=config.seed)
    else:
        trunk = actor if config.model.critic_model is None else Actor.from_pretrained(config.model.critic_model)
        critic = CausalCritic.from_actor(trunk)
        if demonstrations:
            rewards = torch.from_numpy(np.concatenate([episode.rewards for episode in demonstrations])).double()
            returns = lambda_returns(
                rewards,
                torch.zeros(len(rewards), 1, dtype=torch.float64),
                [True] * len(demonstrations),
                [len(episode) for episode in demonstrations],
                discount=config.critic.discount,
                trace=1.0,
            )
            critic.set_units(float(returns.mean()), float(returns.std(correction=0)))
    return critic.to(config.device)


def assemble(
    config: RunConfig, folder: RunFolder, target: str | Factory, actor: Actor, demonstrations: Sequence[Episode]
) -> Run:
    """A run at iteration 0 around a trained or untrained actor."""
    critic = begin_critic(config, actor, demonstrations)
    agent = Agent(
        actor=actor,
        critic=critic,
        target_critic=critic.target(),
        actor_optimizer=make_optimizer(actor, config.actor),
        critic_optimizer=make_optimizer(critic, config.critic),
    )
    return Run(
        config=config,
        folder=folder,
        task=task_name(target),
        make_env=make_factory(target, config.env.options),
        agent=agent,
        replay=Replay(config.replay_turns),
        sampler=SiblingSampler(actor, Sampling(max_tokens=config.rollout.utterance_tokens)),
    )


def demonstrations_as_episodes(
    config: RunConfig, games: Sequence[ScriptedGame], actor: Actor, task: str
) -> list[Episode]:
    """The demonstrator's games in the actor's tokens."""
    prompts = LAYOUTS[config.rollout.layout](actor.tokenizer)
    return [
        to_episode(game, prompts, seed=demonstration_seed(config.seed, index), task=task)
        for index, game in enumerate(games)
    ]


def save(run: Run) -> None:
    """Write the checkpoint of the run's current iteration."""

    def fill(folder: Path) -> None:
        agent = run.agent
        agent.actor.save_pretrained(folder / "actor")
        save_module(folder / "critic.safetensors", agent.critic)
        save_module(folder / "target_critic.safetensors", agent.target_critic)
        save_optimizers(folder / "actor_optimizer.safetensors", agent.actor_optimizer.parts)
        save_optimizers(folder / "critic_optimizer.safetensors", agent.critic_optimizer.parts)
        write_json(folder / "state.json", {"iteration": run.iteration, "policy_version": agent.policy_version})

    save_checkpoint(run.folder.checkpoints, run.iteration, fill, keep=run.config.keep_checkpoints)


def restore(folder: RunFolder, target: str | Factory | None = None) -> Run:
    """The run as its newest good checkpoint has it, with everything later taken back.

    ``target`` is the environment class or factory of a run that was started from Python with one.
    """
    config = folder.config()
    prepare(config)
    checkpoint = latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        raise CheckpointError(
            f"{folder.path} has no checkpoint yet: it was stopped during the supervised start; delete it and train anew"
        )
    actor = Actor.from_pretrained(checkpoint / "actor")
    actor.precision = PRECISIONS[config.model.precision]
    actor.to(config.device)
    run = assemble(config, folder, target if target is not None else config.env.name, actor, [])
    load_module(checkpoint / "critic.safetensors", run.agent.critic)
    load_module(checkpoint / "target_critic.safetensors", run.agent.target_critic)
    load_optimizers(checkpoint / "actor_optimizer.safetensors", run.agent.actor_optimizer.parts)
    load_optimizers(checkpoint / "critic_optimizer.safetensors", run.agent.critic_optimizer.parts)
    run.iteration = int(checkpoint.name)
    run.agent.policy_version = max(0, run.iteration - config.warmup) * config.actor.updates * config.actor.epochs
    folder.forget_after(run.iteration)
    for number in range(1, run.iteration + 1):
        run.replay.add(read_shard(shard_path(folder.episodes, number)))
    if config.critic.demonstrations:
        keep_demonstrations(run, read_shard(folder.demonstrations_file))
    attach_anchor(run)
    return run


def keep_demonstrations(run: Run, episodes: Sequence[Episode]) -> None:
    """Let the critic go on learning from demonstrations."""
    run.demonstrations = Replay(sum(len(episode) for episode in episodes))
    run.demonstrations.add(episodes)


def attach_anchor(run: Run) -> None:
    """Load the supervised start where the actor is to be held near it."""
    if run.config.actor.kl:
        anchor = Actor.from_pretrained(run.folder.checkpoints / START / "actor")
        anchor.precision = run.agent.actor.precision
        run.anchor = anchor.to(run.config.device).requires_grad_(False)
