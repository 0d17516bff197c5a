"""How a run begins: its demonstrations, its actor before any training, and fresh values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from archer import devices
from archer.config import ModelConfig, RunConfig
from archer.envs.base import Demonstrated, Environment, ScriptedGame
from archer.envs.hosting import play_hosted
from archer.intake import in_tokens, with_fitting_lines
from archer.models.actor import Actor
from archer.models.critic import CausalCritic, Critic
from archer.models.encoder_critic import EncoderCritic
from archer.models.lora import Adapted, Base
from archer.models.passes import Passes, attend_by
from archer.models.tiny import build_tiny_actor
from archer.progress import Progress
from archer.returns import lambda_returns
from archer.rollout.demonstrations import texts
from archer.rollout.engines import engine_of
from archer.rollout.layouts import LAYOUTS, layout_of
from archer.rollout.prompts import PlainText
from archer.rollout.sampling import Sampling
from archer.rollout.speaking import Speaker
from archer.seeds import demonstration_seed
from archer.storage.checkpoint import CheckpointError, latest_checkpoint, read_state
from archer.storage.conversations import Problem, read_all
from archer.storage.runfolder import RunFolder
from archer.types import Episode

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def passes_of(config: ModelConfig) -> Passes:
    """How the settings want the learner's passes computed."""
    return Passes(PRECISIONS[config.precision], config.checkpointing, config.compile)


def as_set(actor: Actor, config: ModelConfig) -> Actor:
    """The actor, which from now on learns as the settings want it; ValueError where its architecture cannot."""
    actor.passes = passes_of(config)
    attend_by(actor.network, config.attention)
    return actor


@dataclass(frozen=True)
class Beginning:
    """What a run begins with."""

    actor: Actor
    demonstrations: list[Episode]
    engine: Speaker
    skipped: Sequence[Problem] = ()
    """Conversations of the files that were left out."""
    source: Path | None = None
    """Checkpoint of the run that it goes on from; its actor has been trained."""
    games_before: int = 0
    """Games that were played for the training of that run."""


def begin(config: RunConfig, make_env: Callable[[], Environment] | None, task: str, progress: Progress) -> Beginning:
    """Demonstrations and the actor, from another run or made here; nothing is written, so that what cannot work is
    refused before it leaves anything behind.

    Raises ValueError for settings that do not fit, ConversationError for files, CheckpointError for the other run,
    EngineError for the engine that is to play.
    """
    engine = engine_of(config)
    if config.start_from is not None:
        begun = _go_on_from(config, Path(config.start_from), task, engine, progress)
    else:
        # What is wrong with a model is known before the demonstrations are played, where it needs none of them.
        own = begin_actor(config, []) if config.model.actor is not None else None
        games, problems = devices.told_by_first(lambda: gather_demonstrations(config, make_env, progress))
        actor = own or begin_actor(config, games)
        episodes, unread = read_demonstrations(config, games, actor.tokenizer, task, progress)
        begun = Beginning(actor, episodes, engine, [*problems, *unread])
    begun.actor.check_saving()  # what does not work is found out first
    engine.prepare(begun.actor, Sampling.of(config.rollout))
    return begun


def gather_demonstrations(
    config: RunConfig, make_env: Callable[[], Environment] | None, progress: Progress
) -> tuple[list[ScriptedGame], list[Problem]]:
    """Conversations of the files, or the scripted demonstrator's games; and those that were skipped."""
    wanted = config.demonstrations
    if wanted.files:
        games, problems = read_all(map(Path, wanted.files), skip=wanted.skip_malformed)
    else:
        games, problems = _demonstrated(config, make_env, progress), []
    games, broken = with_fitting_lines(games, config.rollout, skip=wanted.skip_malformed)
    return games[: wanted.games], [*problems, *broken]


def _demonstrated(
    config: RunConfig, make_env: Callable[[], Environment] | None, progress: Progress
) -> list[ScriptedGame]:
    """Games of the task's demonstrator."""
    wanted = config.demonstrations
    if not wanted.games:
        return []
    assert make_env is not None, "refused with the settings"
    env = make_env()
    if not isinstance(env, Demonstrated):
        raise ValueError(
            f"demonstrations.games={wanted.games}, but the task {config.env.name!r} has no demonstrator(seed); "
            "set demonstrations.games to 0 and name a model in model.actor, or name files in demonstrations.files"
        )
    seeds = [demonstration_seed(config.seed, game) for game in range(wanted.games)]
    progress.stage("playing demonstrations", len(seeds), unit="games")
    return play_hosted(make_env, env, env.demonstrator, seeds, progress.count)


def begin_actor(config: RunConfig, games: Sequence[ScriptedGame]) -> Actor:
    """The actor before any training; ``games`` are what the built-in model learns its language from."""
    if config.model.actor is not None:
        actor = load_pretrained(config.model, config.model.actor, config.device)
    elif not games:
        raise ValueError("model.actor is not set and there are no demonstrations to make the built-in tiny model from")
    else:
        tiny, layout = config.model.tiny, LAYOUTS[config.rollout.layout]
        assert issubclass(layout, PlainText), "refused with the settings"
        actor = build_tiny_actor(
            texts(games, layout),
            layers=tiny.layers,
            width=tiny.width,
            heads=tiny.heads,
            context=config.rollout.max_tokens,
            vocabulary=tiny.vocabulary,
            seed=config.seed,
        )
    _check_context(config, actor)
    layout_of(config.rollout)(actor.tokenizer).fit(actor)
    return as_set(actor, config.model).to(config.device)


def read_demonstrations(
    config: RunConfig, games: Sequence[ScriptedGame], tokenizer: Any, task: str, progress: Progress
) -> tuple[list[Episode], list[Problem]]:
    """Demonstrations in the actor's tokens, and those that were skipped as it cannot read them."""
    if games:
        progress.stage("reading demonstrations", len(games), unit="games")
    most = config.rollout.max_tokens
    episodes, problems = in_tokens(
        games, tokenizer, config.rollout, most, f"rollout.max_tokens={most}; raise that, or shorten it",
        skip=config.demonstrations.skip_malformed, seed=partial(demonstration_seed, config.seed), task=task,
        report=progress.count,
    )  # fmt: skip
    recorded = {id(game.played.turns[0].utterance) for game in games if game.played is not None}
    kept = sum(id(episode.turns[0].utterance) in recorded for episode in episodes)
    if kept < len(recorded):
        progress.message(
            f"{kept} of {len(recorded)} recorded games are in these tokens and this layout; of the others the text is "
            "read (as they were played they are read with --start-from RUN or model.actor=RUN/checkpoints/000000/actor)"
        )
    return episodes, problems


def begin_critic(config: RunConfig, actor: Actor, demonstrations: Sequence[Episode]) -> Critic:
    """A fresh critic; with demonstrations, its unit is the spread of their discounted returns."""
    torch.manual_seed(config.seed)  # heads are initialised at random
    critic: Critic
    if config.model.critic == "encoder":
        critic = EncoderCritic.build(config.model.critic_model, actor, config.model.tiny, seed=config.seed)
        attend_by(critic.encoder, config.model.attention)
    else:
        other = config.model.critic_model
        trunk = actor if other is None else _other_trunk(config, other, actor)
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


def _other_trunk(config: RunConfig, path: str, actor: Actor) -> Actor:
    """A causal critic's own model; ValueError where it cannot read what the actor says."""
    trunk = as_set(Actor.from_pretrained(path, setting="model.critic_model"), config.model)
    if trunk.tokenizer.get_vocab() != actor.tokenizer.get_vocab():
        raise ValueError(
            f"model.critic_model={path!r} has another vocabulary than the actor: a causal critic reads the actor's "
            "tokens; name a model with the same tokenizer, or set model.critic='encoder'"
        )
    _check_context(config, trunk, "model.critic_model")
    return trunk


def _go_on_from(config: RunConfig, path: Path, task: str, engine: Speaker, progress: Progress) -> Beginning:
    """The actor of another run's newest checkpoint and its demonstrations, or those of files that are named."""
    folder = RunFolder.open(path)
    earlier = folder.config()
    if earlier.rollout.layout != config.rollout.layout:
        raise ValueError(
            f"rollout.layout={config.rollout.layout!r}, but the run {path} was trained with "
            f"{earlier.rollout.layout!r}: its actor would not understand; set the same"
        )
    mine, theirs = config.model, earlier.model
    if (mine.lora.rank or theirs.lora.rank) and (mine.lora, mine.actor) != (theirs.lora, theirs.actor):
        raise ValueError(
            f"start_from: {path} has adapters of rank {theirs.lora.rank} on {theirs.actor!r}, but model.lora.rank="
            f"{mine.lora.rank} and model.actor={mine.actor!r}; set the same, or write its policy out as a model "
            "(archer export --merge) and set model.actor to that"
        )
    checkpoint = latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        raise CheckpointError(
            f"start_from: {path} has no checkpoint yet; let it come to one: archer train --resume {path}"
        )
    state = read_state(checkpoint)
    actor = load_actor(config, checkpoint)
    _check_context(config, actor)
    skipped: list[Problem] = []
    if config.demonstrations.files:
        games, problems = devices.told_by_first(lambda: gather_demonstrations(config, None, progress))
        episodes, unread = read_demonstrations(config, games, actor.tokenizer, task, progress)
        skipped = [*problems, *unread]
    else:
        episodes = folder.demonstrations()
        if episodes and earlier.env.name not in (None, config.env.name):
            progress.message(
                f"The demonstrations of {path} are of {earlier.env.name}, and are learned from as if they were of "
                f"{config.env.name}: name others (--offline), or set critic.demonstrations=0 actor.demonstrations=0"
            )
    if not episodes and not config.rollout.games and config.iterations:
        raise ValueError(
            f"rollout.games=0 plays nothing, and {path} has no demonstrations: nothing is left to learn from; name "
            "files (--offline)"
        )
    played = state["games_before"] + state["iteration"] * earlier.rollout.games
    return Beginning(actor, episodes, engine, skipped, checkpoint, played)


def load_pretrained(config: ModelConfig, path: str | Path, device: str) -> Actor:
    """A model that somebody has trained, to be trained on: all of it, or with an adapter on it."""
    if not config.lora.rank:
        return Actor.from_pretrained(path)
    actor = Actor.from_pretrained(path, PRECISIONS[config.precision])
    return Actor(Adapted(Base(actor.model.to(device), config.lora)), actor.tokenizer)


def load_actor(config: RunConfig, checkpoint: Path, name: str = "actor", beside: Actor | None = None) -> Actor:
    """A checkpoint's actor, ready to learn, or another policy that it keeps; adapters stand on the base of the actor
    ``beside`` where one is given."""
    if config.model.lora.rank:
        path = config.model.actor
        assert path is not None, "refused with the settings"
        model = deepcopy(beside.model) if beside else load_pretrained(config.model, path, config.device).model
        model.load(checkpoint / name, config.device)
        actor = Actor(model, AutoTokenizer.from_pretrained(checkpoint / name))
    else:
        actor = Actor.from_pretrained(checkpoint / name)
    return as_set(actor, config.model).to(config.device)


def _check_context(config: RunConfig, model: Actor, which: str = "the model") -> None:
    if model.context is not None and model.context < config.rollout.max_tokens:
        raise ValueError(
            f"rollout.max_tokens={config.rollout.max_tokens} is more than {which} can read ({model.context} tokens)"
        )
