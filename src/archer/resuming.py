"""Checkpoints of a run: what is saved of it, and how it is brought back or gone on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from archer import devices
from archer.algorithms.high import HIGH_LEVELS
from archer.beginning import Beginning, load_actor
from archer.config import RunConfig
from archer.devices.sharding import full_state, sharded_parts, take_over
from archer.envs import Factory
from archer.models.actor import Actor
from archer.models.agent import Agent
from archer.optimize import Optimizer
from archer.rollout.engines import engine_of
from archer.run import Run, Stage, assemble, attach_anchor, keep_demonstrations, prepare
from archer.storage.checkpoint import (
    has_checkpoint,
    latest_checkpoint,
    load_module,
    load_optimizers,
    optimizer_state,
    read_state,
    save_checkpoint,
    save_tensors,
)
from archer.storage.files import write_json
from archer.storage.runfolder import RunFolder, RunFolderError
from archer.storage.shards import count_rows, read_shard, shard_path
from archer.types import Episode


def inherit(run: Run, begun: Beginning) -> bool:
    """Take over what the run that this one goes on from had learned besides its actor; whether that was a critic."""
    run.games_before = begun.games_before
    if begun.source is None or run.agent.critic is None or run.agent.target_critic is None:
        return False
    earlier = RunFolder.open(begun.source.parent.parent).config()
    if _kind_of_critic(earlier) != _kind_of_critic(run.config):
        return False
    if not (begun.source / "critic.safetensors").exists():
        return False
    load_module(begun.source / "critic.safetensors", run.agent.critic)
    load_module(begun.source / "target_critic.safetensors", run.agent.target_critic)
    return True


def _kind_of_critic(config: RunConfig) -> tuple[object, ...] | None:
    """What two runs' critics must share for one to be the other's: network, and whether it values utterances or single
    tokens, as what a method does not train is as random as on the first day. None without a critic."""
    high, model = HIGH_LEVELS.get(config.critic.method), config.model
    built = model.tiny if model.critic == "encoder" and model.critic_model is None else None  # others are their files'
    return None if high is None else (model.critic, model.critic_model, built, high.by_token)


def _networks(agent: Agent) -> dict[str, tuple[nn.Module | None, Optimizer | None]]:
    """What a checkpoint keeps besides the actor, by name: a network, and the optimizer of ``NAME_optimizer``."""
    return {
        "actor": (None, agent.actor_optimizer),  # its weights are kept in the form that others read
        "critic": (agent.critic, agent.critic_optimizer),
        "target_critic": (agent.target_critic, None),
        "baseline": (agent.baseline, agent.baseline_optimizer),
    }


def save(run: Run) -> None:
    """Write the checkpoint of the run's current iteration, or stage before the first; returns in all processes when it
    is there."""
    if devices.first():

        def fill(folder: Path) -> None:
            for write in _contents(run):
                write(folder)

        if run.stage is Stage.READY:
            save_checkpoint(run.folder.checkpoints, run.iteration, fill, keep=run.config.keep_checkpoints)
        else:
            save_checkpoint(run.folder.starts, run.stage, fill, keep=1)
    else:
        for _ in _contents(run):
            pass
    devices.wait()


def _contents(run: Run) -> Iterator[Callable[[Path], None]]:
    """What writes each part of a checkpoint into its folder; all processes go through them, as shards are gathered from
    all for one part after another."""
    agent = run.agent
    policies = {"actor": agent.policy}  # what others load is what was measured
    if agent.mean is not None:
        policies["learner"] = agent.actor
    if agent.behavior is not None:
        policies["behavior"] = agent.behavior
    for name, actor in policies.items():
        state = full_state(actor.model) if sharded_parts(actor.model) else None
        yield partial(_save_actor, actor, name, state)
    for name, (network, optimizer) in _networks(agent).items():
        if network is not None:
            yield partial(_save_tensors, f"{name}.safetensors", full_state(network))
        if optimizer is not None:
            yield partial(_save_tensors, f"{name}_optimizer.safetensors", optimizer_state(optimizer.parts))
    if run.kept_values is not None:
        yield partial(_save_tensors, "kept_values.safetensors", run.kept_values.state(run.replay, run.demonstrations))
    counters = {
        "iteration": run.iteration,
        "policy_version": agent.policy_version,
        "behavior_version": agent.behavior_version,
        "games_before": run.games_before,
        "skipped": run.skipped,
        "demonstrations": run.demonstrated,
    }
    yield lambda folder: write_json(folder / "state.json", counters)


def _save_actor(actor: Actor, name: str, state: Mapping[str, Tensor] | None, folder: Path) -> None:
    actor.save_pretrained(folder / name, state)


def _save_tensors(name: str, tensors: Mapping[str, Tensor], folder: Path) -> None:
    save_tensors(folder / name, tensors)


def restore(folder: RunFolder, target: str | Factory | None = None) -> Run:
    """The run as its newest good checkpoint has it, with everything later taken back.

    ``target`` is the environment class or factory of a run that was started from Python with one.
    """
    config = folder.config()
    prepare(config)
    ready = has_checkpoint(folder.checkpoints)
    checkpoint = latest_checkpoint(folder.checkpoints if ready else folder.starts)
    assert checkpoint is not None, "where there is none, the run begins again"
    state, stage = read_state(checkpoint), Stage.READY if ready else Stage(int(checkpoint.name))
    _check_complete(folder, config, state, stage)
    actor = load_actor(config, checkpoint, "learner" if config.actor.averages else "actor")
    run = assemble(config, folder, target if target is not None else config.env.name, actor, [], engine_of(config))
    for name, (network, optimizer) in _networks(run.agent).items():
        if network is not None:
            load_module(checkpoint / f"{name}.safetensors", network)
        if optimizer is not None:
            load_optimizers(checkpoint / f"{name}_optimizer.safetensors", optimizer.parts)
    run.iteration, run.games_before = state["iteration"], state["games_before"]
    run.stage = stage
    # Older checkpoints have not counted them.
    run.skipped = state.get("skipped", 0)
    run.demonstrated = state.get("demonstrations", count_rows(folder.demonstrations_file))
    run.agent.policy_version = state["policy_version"]
    if run.agent.mean is not None:
        take_over(run.agent.mean, load_actor(config, checkpoint, beside=actor))
    if run.agent.behavior is not None:
        run.agent.behavior = load_actor(config, checkpoint, "behavior", actor).requires_grad_(False)
        run.agent.behavior_version = state["behavior_version"]
    if devices.first():
        folder.forget_after(run.iteration, measured=stage.measurements)
        if run.iteration < config.iterations or not ready:
            folder.forget_outcome()
    devices.wait()
    if not ready:
        return run
    if config.rollout.games:
        _refill(run)
    keep_demonstrations(run, folder.demonstrations)
    if run.kept_values is not None:
        run.kept_values.restore(load_file(checkpoint / "kept_values.safetensors"), run.replay, run.demonstrations)
    attach_anchor(run)
    return run


def can_resume(folder: RunFolder) -> bool:
    """Whether a run has come to a checkpoint, of its start at least."""
    return has_checkpoint(folder.checkpoints) or has_checkpoint(folder.starts)


def _check_complete(folder: RunFolder, config: RunConfig, state: Mapping[str, Any], stage: Stage) -> None:
    """Refuse a run that would go on without a part of what it has begun with."""
    lost = []
    asked = stage is not Stage.READY or config.critic.demonstrations or config.actor.demonstrations
    if asked and state.get("demonstrations") and not folder.demonstrations_file.exists():
        lost.append(folder.demonstrations_file)
    if config.env.name is not None and stage is not Stage.CLONED and not folder.metrics():
        lost.append(folder.metrics_file)
    if lost:
        anew = f" with --start-from {folder.path}" if stage is Stage.READY else ""
        raise RunFolderError(
            f"{folder.path} has lost {' and '.join(path.name for path in lost)}, without which it would go on as "
            f"another run: put that back, or begin a new run{anew}"
        )


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
