"""Play: turn a policy and environments into episodes, many games at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import numpy as np

from archer.config import RolloutConfig
from archer.envs.base import Environment, check_reset, check_step, close
from archer.models.actor import Actor
from archer.rollout.engine import Engine, Sampling
from archer.rollout.prompts import PlainText
from archer.types import End, Episode, Ids, Observation, Turn

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Limits:
    """What bounds a conversation besides the environment."""

    max_turns: int = 50
    """Turns after which an episode is truncated if its environment has not ended it."""
    max_tokens: int = 512
    """Longest conversation in tokens; an episode that could not hold one more utterance is truncated."""
    parallel: int = 64
    """Games played at once."""

    @classmethod
    def of(cls, rollout: RolloutConfig) -> Limits:
        """The limits that a run's settings name."""
        return cls(max_turns=rollout.max_turns, max_tokens=rollout.max_tokens, parallel=rollout.parallel)


@dataclass
class _Game:
    """A game under way."""

    env: Environment
    seed: int
    observation: Observation
    turns: list[Turn] = field(default_factory=list)


class EnvironmentFailure(RuntimeError):
    """An environment raised; the message says which game and turn, the cause is chained."""


def play(
    actor: Actor,
    make_env: Callable[[], Environment],
    seeds: Sequence[int],
    *,
    task: str,
    sampling: Sampling,
    limits: Limits,
    layout: type[PlainText] = PlainText,
    policy_version: int = 0,
) -> list[Episode]:
    """Play one episode per seed and return them in the order of ``seeds``.

    Each game has a cache row of its own; a game that ends makes room for the next one at once. What a game says
    depends on its seed and the weights only.
    """
    prompts = layout(actor.tokenizer)
    rows = min(limits.parallel, len(seeds))
    engine = Engine(actor, rows, limits.max_tokens, sampling)
    games: list[_Game] = []
    episodes: dict[int, Episode] = {}
    waiting = iter(range(len(seeds)))
    order: list[int] = []  # index into seeds of the game on each row

    def start(index: int, env: Environment, row: int | None) -> None:
        seed = seeds[index]
        observation, _ = check_reset(_guard(env.reset, seed, 0)(seed=seed))
        ids = prompts.first(observation)
        if len(ids) + sampling.max_tokens > limits.max_tokens:
            raise ValueError(
                f"rollout.max_tokens={limits.max_tokens} is too small: the first observation of {task!r} "
                f"has {len(ids)} tokens and an utterance may take {sampling.max_tokens} more"
            )
        game = _Game(env, seed, observation)
        if row is None:
            engine.open(ids, [seed])
            games.append(game)
            order.append(index)
        else:
            engine.open(ids, [seed], row)
            games[row], order[row] = game, index

    for _ in range(rows):
        start(next(waiting), make_env(), None)
    while engine.active:
        ended: list[int] = []
        for row in engine.step().tolist():
            game = games[row]
            episode = _take_turn(engine, row, game, prompts, task, sampling, limits, policy_version)
            if episode is None:
                continue
            episodes[order[row]] = episode
            following = next(waiting, None)
            if following is None:
                ended.append(row)
            else:
                start(following, game.env, row)
        for row in sorted(ended, reverse=True):
            moved = engine.close(row)
            close(games[row].env)
            games[row], order[row] = games[moved], order[moved]
            games.pop()
            order.pop()
    return [episodes[index] for index in range(len(seeds))]


def _take_turn(
    engine: Engine,
    row: int,
    game: _Game,
    prompts: PlainText,
    task: str,
    sampling: Sampling,
    limits: Limits,
    policy_version: int,
) -> Episode | None:
    """Hand the utterance that just ended to the environment; the whole episode if it ended with this turn."""
    utterance = engine.utterance(row)
    prompt_length = len(engine.tokens(row)) - len(utterance.ids)
    step = check_step(_guard(game.env.step, game.seed, len(game.turns) + 1)(utterance.text))
    observation, reward, terminated, truncated, info = step
    game.turns.append(
        Turn(
            prompt_ids=engine.tokens(row)[:prompt_length],
            utterance=utterance,
            observation=game.observation,
            reward=reward,
            info=info,
        )
    )
    game.observation = observation
    ids = prompts.next(utterance.text, observation, [turn.utterance.text for turn in game.turns[:-1]])
    if terminated:
        end = End.TERMINATED
    elif truncated or len(game.turns) >= limits.max_turns:
        end = End.TURN_LIMIT
    elif engine.room(row) < len(ids) + sampling.max_tokens:
        end = End.TOKEN_LIMIT
    else:
        engine.give(row, ids)
        return None
    final = np.concatenate([engine.tokens(row), ids])
    return Episode(
        turns=_share(game.turns, final),
        end=end,
        final_prompt_ids=final,
        seed=game.seed,
        task=task,
        policy_version=policy_version,
    )


def _share(turns: Sequence[Turn], final: Ids) -> tuple[Turn, ...]:
    """The same turns with every state a view of one array: a conversation that only grows is stored once."""
    return tuple(
        Turn(
            prompt_ids=final[: len(turn.prompt_ids)],
            utterance=turn.utterance,
            observation=turn.observation,
            reward=turn.reward,
            info=turn.info,
        )
        for turn in turns
    )


def _guard(call: Callable[P, R], seed: int, turn: int) -> Callable[P, R]:
    """``call``, whose failure names the game."""

    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            raise EnvironmentFailure(
                f"the environment failed in the game with seed {seed}, turn {turn}: {type(error).__name__}: {error}"
            ) from error

    return guarded
