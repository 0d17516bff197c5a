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
from archer.benchmarks.workloads import (
    ACTOR,
    CRITIC,
    UTTERANCE_TOKENS,
    Learning,
    Shape,
    build_actor,
    play_games,
    said_tokens,
)
from archer.models.actor import Actor
from archer.models.passes import Passes
from archer.types import Episode

BATCH = 256
"""Turns of a step."""
REFERENCE_BATCH = 64
"""What the reference is timed on: its transitions are independent, and 256 of them take most of a minute."""
LARGE_BATCH, LARGE_REFERENCE_BATCH = 80, 4
"""The same for a model that is a thousand times as large."""
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


class Lessons:
    """Steps of both arrangements on the same games."""

    def __init__(self, actor: Actor, shape: Shape, batch: int, reference_batch: int) -> None:
        self.ours = Learning.of(actor, play_games(actor, shape), batch)
        self._published = Published(actor)
        self._transitions: list[Transition] = [
            (turn.prompt_ids, turn.utterance.ids, turn.reward, after, index == len(episode) - 1)
            for episode in self.ours.episodes
            for index, (turn, after) in enumerate(
                zip(episode.turns, [t.prompt_ids for t in episode.turns[1:]] + [episode.final_prompt_ids], strict=True)
            )
        ]
        self._reference_batch = reference_batch
        self._generator = np.random.default_rng(0)

    def critic(self, name: str, ceilings: Ceilings, *, steps: int, repeats: int, target: float | None) -> Measure:
        """Critic steps, ``steps`` at a time."""
        work, precision = critic_work(self.ours, steps), self.ours.agent.actor.precision
        return interleave(
            name, "transitions/s",
            lambda: critic_steps(self.ours, steps), lambda: self._reference(self._published.update_critic),
            repeats=repeats, target=target, least=_least(work, ceilings, precision),
        )  # fmt: skip

    def actor(self, name: str, *, repeats: int, target: float | None) -> Measure:
        """Actor steps, one at a time."""
        return interleave(
            name, "utterances/s",
            lambda: actor_steps(self.ours, 1), lambda: self._reference(self._published.update_actor),
            repeats=repeats, target=target,
        )  # fmt: skip

    def _reference(self, update: Callable[[Sequence[Transition]], None]) -> float:
        drawn = self._generator.choice(len(self._transitions), self._reference_batch, replace=False)
        update([self._transitions[i] for i in drawn])
        return float(self._reference_batch)


def learning(actor: Actor, shape: Shape, ceilings: Ceilings, *, repeats: int) -> Iterator[Measure]:
    """Critic and actor steps of 256 turns, and the iteration that they and 128 games make up."""
    lessons = Lessons(actor, shape, BATCH, REFERENCE_BATCH)
    critic = lessons.critic("critic step", ceilings, steps=4, repeats=repeats, target=15)
    yield critic
    step = lessons.actor("actor step", repeats=repeats, target=5)
    yield step
    play = interleave(
        "", "games/s", lambda: len(play_games(actor, shape, GAMES)), lambda: _count_games(actor, shape, GAMES),
        repeats=max(1, repeats // 3),
    )  # fmt: skip
    yield _iteration(play, critic, step)


def large_critic(shape: Shape, ceilings: Ceilings, *, repeats: int) -> Measure:
    """Critic steps of a model that fills the processor, in bfloat16; the reference has float32, as published."""
    actor = build_actor(shape)
    actor.passes = Passes(torch.bfloat16)
    lessons = Lessons(actor, shape, LARGE_BATCH, LARGE_REFERENCE_BATCH)
    critic_steps(lessons.ours, 3)  # until the process has found its memory
    name = f"critic step, {shape.name}, bf16 (reference fp32)"
    return lessons.critic(name, ceilings, steps=1, repeats=repeats, target=None)


def critic_steps(ours: Learning, steps: int) -> float:
    """Our critic's update; the turns in its batches."""
    update_critic(
        ours.agent, ours.replay, replace(CRITIC, updates=steps, batch_turns=ours.batch), sampler=ours.sampler, seed=[0]
    )
    return float(steps * ours.turns)


def actor_steps(ours: Learning, steps: int) -> float:
    """Our actor's update; the utterances in its batches."""
    update_actor(
        ours.agent, None, ours.replay, replace(ACTOR, updates=steps, batch_turns=ours.batch),
        sampler=ours.sampler, seed=[0], credit=None, demonstrations=None,
    )  # fmt: skip
    return float(steps * ours.turns)


def critic_work(ours: Learning, steps: int) -> Work:
    """Whole games three times through the critic, forward and back, and once through its target with an utterance for
    each state; the games that are drawn are read once more by the actor, which says these utterances."""
    known, games = len(ours.episodes), ours.turns / len(ours.episodes[0])
    drawn = known * (1 - (1 - games / known) ** steps)  # expected, of ``steps`` draws of different games
    length = float(np.mean([len(episode.final_prompt_ids) for episode in ours.episodes]))
    siblings = len(ours.episodes[0]) * UTTERANCE_TOKENS
    tokens = steps * games * (4 * length + siblings) + drawn * (length + siblings)
    return Work(pass_flops(ours.agent.actor, tokens, length / 2, drawn * siblings), 0.0)


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
