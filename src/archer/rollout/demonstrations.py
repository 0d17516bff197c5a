"""Demonstrations: games of a scripted player, put into the same records as the agent's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from archer.config import PassesConfig
from archer.envs.base import ScriptedGame
from archer.rollout.history import History, append, share
from archer.rollout.prompts import Layout, PlainText, Told
from archer.types import End, Episode, Turn, Utterance, observation_text


def texts(games: Sequence[ScriptedGame], layout: type[PlainText] = PlainText) -> Iterator[str]:
    """Every piece of text of the games as the agent will meet it, to train a tokenizer on."""
    for game in games:
        yield observation_text(game.observations[0]) + "\n"
        for turn, (utterance, answer) in enumerate(zip(game.utterances, game.answers, strict=True)):
            yield utterance
            yield from layout.reply(utterance, answer, game.utterances[:turn])


def count_steps(episodes: Sequence[Episode], config: PassesConfig) -> int:
    """Gradient steps that ``batches`` makes of the episodes."""
    return config.epochs * -(-len(episodes) // config.batch_games)


def batches(
    episodes: Sequence[Episode], config: PassesConfig, generator: np.random.Generator
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
) -> Episode:
    """A scripted game as an episode, as an agent that plays with ``history`` and ``room`` tokens would have read it.

    Its log-probabilities are NaN: no policy sampled these tokens.
    """
    told: Told = prompts.open(game.observations[0])
    turns: list[Turn] = []
    for number, (text, answer) in enumerate(zip(game.utterances, game.answers, strict=True)):
        said = prompts.utterance(told, text)
        utterance = Utterance(said, np.full(len(said), np.nan, np.float32), text)
        observation, reward, info = game.observations[number], game.rewards[number], game.infos[number]
        turns.append(Turn(told.ids, utterance, observation, reward, info))
        told = prompts.answered(told, said, text, answer, game.utterances[:number])
        everything = told.ids
        told = history(told, prompts, answer, room)
    ids = everything if game.terminated else told.ids
    return Episode(
        turns=share(turns, ids),
        end=End.TERMINATED if game.terminated else End.TURN_LIMIT,
        final_prompt_ids=ids,
        seed=seed,
        task=task,
        policy_version=-1,
    )
