"""The measures: playing, critic, actor, and a whole iteration, each against the published arrangement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from archer.algorithms.actor import update_actor
from archer.algorithms.critic import update_critic
from archer.benchmarks.measure import Measure, interleave
from archer.benchmarks.published import Published, Transition
from archer.benchmarks.published import play_games as play_published
from archer.benchmarks.roofline import Ceilings, Work, decode_work, pass_flops, type_name
from archer.benchmarks.workloads import ACTOR, CRITIC, Learning, Shape, play_games, said_tokens
from archer.models.actor import Actor
from archer.types import Episode

BATCH = 256
REFERENCE_BATCH = 64
"""What the reference is timed on: its transitions are independent, and 256 of them take most of a minute."""
CRITIC_STEPS, ACTOR_STEPS, GAMES = 50, 3, 128
"""The iteration whose time is told."""


def decoding(shape: Shape, actor: Actor, ceilings: Ceilings, *, repeats: int, target: float | None) -> Measure:
    """Tokens said per second while games are played; the reference has the same weights and type."""
    dtype = actor.precision
    play_games(actor, shape, 2)  # compiles what is compiled
    episodes = play_games(actor, shape)
    return interleave(
        f"play, {shape.name}, {shape.games} games, {_short(dtype)}", "tokens/s",
        lambda: said_tokens(play_games(actor, shape)),
        lambda: sum(len(said) for _, said, *_ in play_published(actor, shape)),
        repeats=repeats, target=target, least=_least(playing_work(actor, episodes), ceilings, dtype),
    )  # fmt: skip


def playing_work(actor: Actor, episodes: list[Episode]) -> Work:
    """What playing these games must do at least, all of them side by side."""
    lengths = [len(episode.final_prompt_ids) for episode in episodes]
    tokens, context = sum(lengths), float(np.mean([(length + 1) / 2 for length in lengths]))
    steps = max(episode.tokens_said for episode in episodes)
    return decode_work(actor, steps, tokens, context, said_tokens(episodes))


def learning(actor: Actor, shape: Shape, ceilings: Ceilings, *, repeats: int) -> Iterator[Measure]:
    """Critic and actor steps of 256 turns, and the iteration that they and 128 games make up."""
    ours = Learning.of(actor, play_games(actor, shape))
    published = Published(actor)
    transitions = [
        (turn.prompt_ids, turn.utterance.ids, turn.reward, after, index == len(episode) - 1)
        for episode in ours.episodes
        for index, (turn, after) in enumerate(
            zip(episode.turns, [t.prompt_ids for t in episode.turns[1:]] + [episode.final_prompt_ids], strict=True)
        )
    ]
    generator = np.random.default_rng(0)

    def one_batch(update: Callable[[Sequence[Transition]], None]) -> float:
        update([transitions[i] for i in generator.choice(len(transitions), REFERENCE_BATCH, replace=False)])
        return float(REFERENCE_BATCH)

    critic = interleave(
        "critic step", "transitions/s", lambda: critic_steps(ours, 4), lambda: one_batch(published.update_critic),
        repeats=repeats, target=15, least=_least(critic_work(ours, 4), ceilings, torch.float32),
    )  # fmt: skip
    yield critic
    step = interleave(
        "actor step", "utterances/s", lambda: actor_steps(ours, 1), lambda: one_batch(published.update_actor),
        repeats=repeats, target=5,
    )  # fmt: skip
    yield step
    play = interleave(
        "", "games/s", lambda: len(play_games(actor, shape, GAMES)), lambda: _count_games(actor, shape, GAMES),
        repeats=max(1, repeats // 3),
    )  # fmt: skip
    yield _iteration(play, critic, step)


def critic_steps(ours: Learning, steps: int) -> float:
    """Our critic's update; the turns in its batches."""
    update_critic(ours.agent, ours.replay, replace(CRITIC, updates=steps), sampler=ours.sampler, seed=[0])
    return float(steps * _turns(ours))


def actor_steps(ours: Learning, steps: int) -> float:
    """Our actor's update; the utterances in its batches."""
    update_actor(
        ours.agent, None, ours.replay, replace(ACTOR, updates=steps),
        sampler=ours.sampler, seed=[0], credit=None, demonstrations=None,
    )  # fmt: skip
    return float(steps * _turns(ours))


def critic_work(ours: Learning, steps: int) -> Work:
    """Three forward passes' worth for the critic and one for its target, over whole games; siblings left out."""
    games = _turns(ours) / len(ours.episodes[0])
    length = float(np.mean([len(episode.final_prompt_ids) for episode in ours.episodes]))
    return Work(steps * 4 * pass_flops(ours.agent.actor, games * length, length / 2, 0), 0.0)


def _turns(ours: Learning) -> int:
    """Turns of a batch: whole games that hold at least 256."""
    per_game = len(ours.episodes[0])
    return -(-BATCH // per_game) * per_game


def _iteration(play: Measure, critic: Measure, actor: Measure) -> Measure:
    """Seconds of 128 games, 50 critic and 3 actor steps of 256, from the medians of each."""

    def seconds(of_play: float, of_critic: float, of_actor: float) -> float:
        return GAMES / of_play + CRITIC_STEPS * BATCH / of_critic + ACTOR_STEPS * BATCH / of_actor

    ours = seconds(play.ours, critic.ours, actor.ours)
    reference = seconds(play.reference, critic.reference, actor.reference)
    return Measure(
        f"iteration: {GAMES} games, {CRITIC_STEPS} critic and {ACTOR_STEPS} actor steps of {BATCH}", "iterations/h",
        3600 / ours, 3600 / reference, 20, (3600 / ours,), (3600 / reference,),
    )  # fmt: skip


def _count_games(actor: Actor, shape: Shape, games: int) -> float:
    play_published(actor, shape, games)
    return float(games)


def _least(work: Work, ceilings: Ceilings, dtype: torch.dtype) -> tuple[float, str]:
    return work.seconds(ceilings, dtype), work.bound(ceilings, dtype)


def _short(dtype: torch.dtype) -> str:
    return {"float32": "fp32", "bfloat16": "bf16"}[type_name(dtype)]
