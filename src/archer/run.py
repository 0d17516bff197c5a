"""The state of a run: networks, replay and counters, and how they are saved and brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from archer.algorithms.target_values import KeptValues
from archer.beginning import Beginning, begin_critic, load_actor
from archer.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    load_module,
    load_optimizers,
    read_state,
    save_checkpoint,
    save_module,
    save_optimizers,
    save_tensors,
)
from archer.config import RunConfig
from archer.envs import Factory, make_factory, task_name
from archer.envs.base import Environment
from archer.envs.hosting import Hosting
from archer.files import write_json
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import Critic
from archer.models.token_baseline import TokenBaseline
from archer.optimize import Optimizer
from archer.quantised import check_states
from archer.replay import Replay
from archer.rollout.best_of import play_best_of
from archer.rollout.layouts import layout_of
from archer.rollout.play import Limits, host, play
from archer.rollout.prompts import LayoutMaker
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from archer.runfolder import RunFolder
from archer.storage import read_shard, shard_path
from archer.types import Episode

START = "000000"
"""The checkpoint of the supervised start."""
NO_TASK = "conversations"
"""What the task of a run without an environment is called."""


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
    demonstrations: Replay | None = None
    """Where critic or actor go on learning from them."""
    kept_values: KeptValues | None = None
    """Where the target critic is not asked at every step."""
    anchor: Actor | None = None
    """The supervised start, where the actor is held near it."""
    iteration: int = 0
    """Iterations done."""
    games_before: int = 0
    """Games played by the run that this one goes on from."""

    @property
    def games(self) -> int:
        """Games played for training so far, warm-up included."""
        return self.games_before + self.iteration * self.config.rollout.games

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
        """How to play: the policy's first word, or the critic's choice among ``best_of`` of them."""
        return partial(play_best_of, best_of, self.agent.learned_critic) if best_of else play


def prepare(config: RunConfig) -> None:
    """Settings of the process: threads, and a generator that no run should depend on but a model's dropout may.

    ValueError where the device cannot do what the settings ask of it.
    """
    check_states({part.states for part in config.optimized.values()}, config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)


def assemble(
    config: RunConfig, folder: RunFolder, target: str | Factory | None, actor: Actor, demonstrations: Sequence[Episode]
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
        environments=None if make_env is None else host(make_env, config.rollout),
        agent=agent,
        replay=Replay(config.replay_turns),
        sampler=SiblingSampler(agent.policy, Sampling.of(config.rollout)),
        kept_values=KeptValues(config.critic.keep_values) if config.critic.keep_values else None,
    )


def equip(config: RunConfig, actor: Actor, critic: Critic | None) -> Agent:
    """Everything that learns with an actor and a critic, or is kept beside them."""
    agent = Agent(actor=actor, actor_optimizer=make_optimizer(actor, config.actor))
    if critic is not None:
        agent.critic = critic
        agent.target_critic = critic.target()
        agent.critic_optimizer = make_optimizer(critic, config.critic)
    if config.actor.averages:
        agent.mean = deepcopy(actor).requires_grad_(False)
    if config.rollout.overlap:
        agent.behavior = deepcopy(actor).requires_grad_(False)
    if config.actor.method == "baseline":
        agent.baseline = TokenBaseline.from_actor(actor).to(config.device)
        agent.baseline.value.set_units(0.0, agent.learned_critic.unit)  # advantages lie around 0
        agent.baseline_optimizer = make_optimizer(agent.baseline, config.baseline)
    return agent


def inherit(run: Run, begun: Beginning) -> bool:
    """Take over what the run that this one goes on from had learned besides its actor; whether that was a critic."""
    run.games_before = begun.games_before
    if begun.source is None or run.agent.critic is None or run.agent.target_critic is None:
        return False
    earlier = RunFolder.open(begun.source.parent.parent).config()
    of_a_kind = (earlier.model.critic, earlier.model.critic_model) == (
        run.config.model.critic,
        run.config.model.critic_model,
    )
    if not of_a_kind or earlier.critic.method == "none" or not (begun.source / "critic.safetensors").exists():
        return False
    load_module(begun.source / "critic.safetensors", run.agent.critic)
    load_module(begun.source / "target_critic.safetensors", run.agent.target_critic)
    return True


def _networks(agent: Agent) -> dict[str, tuple[nn.Module | None, Optimizer | None]]:
    """What a checkpoint keeps besides the actor, by name: a network, and the optimizer of ``NAME_optimizer``."""
    return {
        "actor": (None, agent.actor_optimizer),  # its weights are kept in the form that others read
        "critic": (agent.critic, agent.critic_optimizer),
        "target_critic": (agent.target_critic, None),
        "baseline": (agent.baseline, agent.baseline_optimizer),
    }


def save(run: Run) -> None:
    """Write the checkpoint of the run's current iteration."""

    def fill(folder: Path) -> None:
        run.agent.policy.save_pretrained(folder / "actor")  # what others load is what was measured
        if run.agent.mean is not None:
            run.agent.actor.save_pretrained(folder / "learner")
        if run.agent.behavior is not None:
            run.agent.behavior.save_pretrained(folder / "behavior")
        for name, (network, optimizer) in _networks(run.agent).items():
            if network is not None:
                save_module(folder / f"{name}.safetensors", network)
            if optimizer is not None:
                save_optimizers(folder / f"{name}_optimizer.safetensors", optimizer.parts)
        if run.kept_values is not None:
            save_tensors(folder / "kept_values.safetensors", run.kept_values.state(run.replay, run.demonstrations))
        state = {
            "iteration": run.iteration,
            "policy_version": run.agent.policy_version,
            "behavior_version": run.agent.behavior_version,
            "games_before": run.games_before,
        }
        write_json(folder / "state.json", state)

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
    actor = load_actor(config, checkpoint, "learner" if config.actor.averages else "actor")
    run = assemble(config, folder, target if target is not None else config.env.name, actor, [])
    for name, (network, optimizer) in _networks(run.agent).items():
        if network is not None:
            load_module(checkpoint / f"{name}.safetensors", network)
        if optimizer is not None:
            load_optimizers(checkpoint / f"{name}_optimizer.safetensors", optimizer.parts)
    state = read_state(checkpoint)
    run.iteration, run.games_before = state["iteration"], state["games_before"]
    run.agent.policy_version = state["policy_version"]
    if run.agent.mean is not None:
        run.agent.mean.load_state_dict(load_actor(config, checkpoint, beside=actor).state_dict())
    if run.agent.behavior is not None:
        run.agent.behavior = load_actor(config, checkpoint, "behavior", actor).requires_grad_(False)
        run.agent.behavior_version = state["behavior_version"]
    folder.forget_after(run.iteration)
    if config.rollout.games:
        _refill(run)
    if folder.demonstrations_file.exists():
        keep_demonstrations(run, lambda: read_shard(folder.demonstrations_file))
    if run.kept_values is not None:
        run.kept_values.restore(load_file(checkpoint / "kept_values.safetensors"), run.replay, run.demonstrations)
    attach_anchor(run)
    return run


def _refill(run: Run) -> None:
    """Put the newest games that replay can hold back into it; the older ones need not be read."""
    shards: list[list[Episode]] = []
    turns = 0
    for number in range(run.iteration, 0, -1):
        shards.append(read_shard(shard_path(run.folder.episodes, number)))
        turns += sum(len(episode) for episode in shards[-1])
        if turns >= run.replay.capacity:
            break
    for episodes in reversed(shards):
        run.replay.add(episodes)


def keep_demonstrations(run: Run, episodes: Callable[[], Sequence[Episode]]) -> None:
    """Let critic and actor go on learning from demonstrations, where they are to."""
    if (run.config.critic.demonstrations or run.config.actor.demonstrations) and (kept := episodes()):
        run.demonstrations = Replay(sum(len(episode) for episode in kept))
        run.demonstrations.add(kept)


def attach_anchor(run: Run) -> None:
    """Load the supervised start where the actor is to be held near it."""
    if run.config.actor.kl and run.config.actor.method != "none":
        anchor = load_actor(run.config, run.folder.checkpoints / START, beside=run.agent.actor)
        run.anchor = anchor.requires_grad_(False)
