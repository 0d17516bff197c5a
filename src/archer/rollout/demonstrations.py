"""Demonstrations: games of a scripted player, put into the same records as the agent's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from archer.config import EpochsConfig
from archer.envs.base import ScriptedGame
from archer.rollout.history import History, append
from archer.rollout.prompts import Layout, PlainText, Told
from archer.types import End, Episode, Turn, Utterance, observation_text, share


def texts(games: Sequence[ScriptedGame], layout: type[PlainText] = PlainText) -> Iterator[str]:
    """Every piece of text of the games as the agent will meet it, to train a tokenizer on."""
    for game in games:
        yield observation_text(game.observations[0]) + "\n"
        for turn, (utterance, answer) in enumerate(zip(game.utterances, game.answers, strict=True)):
            yield utterance
            yield from layout.reply(utterance, answer, game.utterances[:turn])


def count_steps(episodes: Sequence[Episode], config: EpochsConfig) -> int:
    """Gradient steps that ``batches`` makes of the episodes."""
    return config.epochs * -(-len(episodes) // config.batch_games)


def batches(
    episodes: Sequence[Episode], config: EpochsConfig, generator: np.random.Generator
) -> Iterator[tuple[list[Episode], int, int]]:
    """``batch_games`` episodes at a time, shuffled anew in every epoch; with the number of each step and of all."""
    steps = count_steps(episodes, config)
    step = 0
    for _ in range(config.epochs):
        order = generator.permutation(len(episodes))
        for start in range(0, len(episodes), config.batch_games):
            yield [episodes[i] for i in order[start : start + config.batch_games]], step, steps
            step += 1


def to_episode(
    game: ScriptedGame,
    prompts: Layout[Any],
    *,
    seed: int,
    task: str,
    history: History = append,
    room: int = sys.maxsize,
    limit: int = sys.maxsize,
) -> Episode:
    """A game as an episode, as an agent that plays with ``history``, ``room`` and ``limit`` tokens would have read it.

    A game that a policy played in the same tokens and layout is as it was recorded: ids, spans, log-probabilities.
    Any other is made of its text. Its log-probabilities are NaN: no policy sampled these tokens.
    """
    read = partial(_read, game, prompts, seed=seed, task=task, history=history, room=room, limit=limit)
    recorded = game.played
    if recorded is not None and all(prompts.spells(turn.utterance) for turn in recorded.turns):
        again = read([turn.utterance for turn in recorded.turns])
        if _same_states(again, recorded):
            final = recorded.final_prompt_ids[:limit]
            turns, last = share(again.turns, final), recorded.final_observation
            return replace(again, turns=turns, final_prompt_ids=final, final_observation=last)
    return read(None)


def _read(
    game: ScriptedGame,
    prompts: Layout[Any],
    spoken: Sequence[Utterance] | None,
    *,
    seed: int,
    task: str,
    history: History,
    room: int,
    limit: int,
) -> Episode:
    """A game with the utterances as they were ``spoken``, or made of their text."""
    told: Told = prompts.open(game.observations[0])
    turns: list[Turn] = []
    for number, (text, answer) in enumerate(zip(game.utterances, game.answers, strict=True)):
        if spoken is None:
            ids = prompts.utterance(told, text)
            utterance = Utterance(ids, np.full(len(ids), np.nan, np.float32), text)
        else:
            utterance = spoken[number]
        observation, reward, info = game.observations[number], game.rewards[number], game.infos[number]
        turns.append(Turn(told.ids, utterance, observation, reward, info))
        told = prompts.answered(told, utterance.ids, text, answer, game.utterances[:number])
        everything = told.ids
        told = history(told, prompts, answer, room)
    end = game.played.end if game.played else End.TERMINATED if game.terminated else End.TURN_LIMIT
    ids = (everything if end in (End.TERMINATED, End.TOKEN_LIMIT) else told.ids)[:limit]
    return Episode(
        turns=share(turns, ids),
        end=end,
        final_prompt_ids=ids,
        seed=seed,
        task=task,
        policy_version=-1,
        final_observation=game.final_observation,
    )


def _same_states(read: Episode, recorded: Episode) -> bool:
    """Whether every state is what was recorded; of the last one, which a limit may have cut, what both have."""
    states = zip(read.turns, recorded.turns, strict=True)
    if not all(np.array_equal(turn.prompt_ids, other.prompt_ids) for turn, other in states):
        return False
    if recorded.final_observation is None:  # then what was read here lacks it
        return True
    length = min(len(read.final_prompt_ids), len(recorded.final_prompt_ids))
    return np.array_equal(read.final_prompt_ids[:length], recorded.final_prompt_ids[:length])
