"""Play: turn a policy and environments into episodes, many games at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np

from archer.config import RolloutConfig
from archer.envs.base import Environment, check_reset, check_step, close
from archer.models.actor import Actor
from archer.rollout.decoders import refresh
from archer.rollout.engine import Engine
from archer.rollout.prompts import PlainText
from archer.rollout.sampling import Sampling
from archer.types import End, Episode, Ids, Observation, Turn, Utterance

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
    workers: int = 0
    """Threads in which environments answer while other games are decoded; 0: in line."""

    @classmethod
    def of(cls, rollout: RolloutConfig) -> Limits:
        """The limits that a run's settings name."""
        return cls(rollout.max_turns, rollout.max_tokens, rollout.parallel, rollout.workers)

    def executor(self) -> Executor:
        """What environments answer in."""
        return ThreadPoolExecutor(self.workers, "environment") if self.workers else InLine()


class InLine(Executor):
    """Does at once what it is asked for."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        done: Future[R] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@dataclass(frozen=True)
class Rules:
    """What all games of a call have in common."""

    task: str
    prompts: PlainText
    sampling: Sampling
    limits: Limits
    policy_version: int


@dataclass
class Game:
    """A game under way."""

    env: Environment
    seed: int
    copy: int
    """How many games of the same seed came before it in the call."""
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
    depends on its seed, how often that stood in ``seeds`` before, and the weights only.
    """
    rules = Rules(task, layout(actor.tokenizer), sampling, limits, policy_version)
    refresh(actor)
    engine = Engine(actor, min(limits.parallel, len(seeds)), limits.max_tokens, sampling)
    games: dict[int, tuple[int, Game]] = {}  # by row: which of seeds, and the game
    episodes: dict[int, Episode] = {}
    waiting = iter(zip(range(len(seeds)), seeds, count_copies(seeds), strict=True))
    beginning: dict[Future[tuple[Game, Ids]], int] = {}  # which of seeds
    answering: dict[Future[Ids | Episode], int] = {}  # row

    with limits.executor() as environments:

        def start(env: Environment) -> None:
            """Let the next game begin in ``env``; without one, ``env`` is done with."""
            following = next(waiting, None)
            if following is None:
                close(env)
            else:
                index, seed, copy = following
                beginning[environments.submit(begin, env, seed, copy, rules)] = index

        for _ in range(engine.rows):
            start(make_env())
        while beginning or answering or engine.active:
            # Whoever has answered goes on; nobody is waited for as long as there is something to decode.
            open_calls: list[Future[Any]] = [*beginning, *answering]
            ready = wait(open_calls, 0 if engine.active else None, FIRST_COMPLETED).done
            for begun in [future for future in beginning if future in ready]:
                index = beginning.pop(begun)
                game, ids = begun.result()
                games[engine.open(ids, [game.seed, game.copy])] = index, game
            for answered in [future for future in answering if future in ready]:
                row = answering.pop(answered)
                index, game = games[row]
                outcome = answered.result()
                if isinstance(outcome, Episode):
                    episodes[index] = outcome
                    engine.close(row)
                    start(game.env)
                else:
                    engine.give(row, outcome)
            if engine.active:
                for row in engine.step().tolist():
                    utterance = engine.utterance(row)
                    state = engine.tokens(row)[: -len(utterance.ids)]
                    answering[environments.submit(take_turn, games[row][1], state, utterance, rules)] = row
    return [episodes[index] for index in range(len(seeds))]


def count_copies(seeds: Sequence[int]) -> list[int]:
    """How often each seed stands in the list before its place."""
    met: Counter[int] = Counter()
    found: list[int] = []
    for seed in seeds:
        found.append(met[seed])
        met[seed] += 1
    return found


def begin(env: Environment, seed: int, copy: int, rules: Rules) -> tuple[Game, Ids]:
    """A new game, and what the agent is told first."""
    observation, _ = check_reset(_guard(env.reset, seed, 0)(seed=seed))
    ids = rules.prompts.first(observation)
    if len(ids) + rules.sampling.max_tokens > rules.limits.max_tokens:
        raise ValueError(
            f"rollout.max_tokens={rules.limits.max_tokens} is too small: the first observation of {rules.task!r} "
            f"has {len(ids)} tokens and an utterance may take {rules.sampling.max_tokens} more"
        )
    return Game(env, seed, copy, observation), ids


def take_turn(game: Game, state: Ids, utterance: Utterance, rules: Rules) -> Ids | Episode:
    """Hand an utterance to the environment: what the agent is told next, or the episode if it ended with this turn.

    state: what the agent had been told when it said it.
    """
    step = check_step(_guard(game.env.step, game.seed, len(game.turns) + 1)(utterance.text))
    observation, reward, terminated, truncated, info = step
    before = [turn.utterance.text for turn in game.turns]
    game.turns.append(Turn(state, utterance, game.observation, reward, info))
    game.observation = observation
    ids = rules.prompts.next(utterance.text, observation, before)
    if terminated:
        end = End.TERMINATED
    elif truncated or len(game.turns) >= rules.limits.max_turns:
        end = End.TURN_LIMIT
    elif len(state) + len(utterance.ids) + len(ids) + rules.sampling.max_tokens > rules.limits.max_tokens:
        end = End.TOKEN_LIMIT
    else:
        return ids
    final = np.concatenate([state, utterance.ids, ids])
    return Episode(
        turns=_share(game.turns, final),
        end=end,
        final_prompt_ids=final,
        seed=game.seed,
        task=rules.task,
        policy_version=rules.policy_version,
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
