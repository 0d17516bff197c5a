"""Play: turn a policy and environments into episodes, many games at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np

from archer.config import RolloutConfig
from archer.envs.base import Environment
from archer.envs.faults import Fault
from archer.envs.hosting import Hosting
from archer.models.actor import Actor
from archer.rollout.history import HISTORIES
from archer.rollout.prompts import Layout, LayoutMaker, PlainText, Told
from archer.rollout.sampling import Sampling
from archer.rollout.seat import Faults, GivenUp, Seat
from archer.rollout.speaking import BUILT_IN, Conversations, Speaker
from archer.types import End, Episode, Ids, Observation, Turn, Utterance, share

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
    history: str = "append"
    """What of a conversation the agent reads, a name of ``HISTORIES``."""
    retries: int = 1
    """How often an environment's failed call is tried again."""
    max_failures: float = 0.1
    """Share of the games that may fail in their environments for good."""

    @classmethod
    def of(cls, rollout: RolloutConfig) -> Limits:
        """The limits that a run's settings name."""
        return cls(
            rollout.max_turns,
            rollout.max_tokens,
            rollout.parallel,
            rollout.workers,
            rollout.history,
            rollout.retries,
            rollout.max_failures,
        )

    def executor(self, make_env: Callable[[], Environment]) -> Executor:
        """What environments answer in."""
        waiting = isinstance(make_env, Hosting) and make_env.waits
        threads = self.parallel if waiting else self.workers
        return ThreadPoolExecutor(threads, "environment") if threads else InLine()


def host(make_env: Callable[[], Environment], rollout: RolloutConfig) -> Hosting:
    """Copies that answer where a run's settings say."""
    return Hosting(make_env, workers=rollout.workers, processes=rollout.processes, timeout=rollout.step_timeout)


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
    prompts: Layout[Any]
    sampling: Sampling
    limits: Limits
    policy_version: int


@dataclass
class Game:
    """A game under way."""

    seat: Seat
    seed: int
    copy: int
    """How many games of the same seed came before it in the call."""
    observation: Observation
    told: Told
    """What the agent is reading."""
    turns: list[Turn] = field(default_factory=list)


def play(
    actor: Actor,
    make_env: Callable[[], Environment],
    seeds: Sequence[int],
    *,
    task: str,
    sampling: Sampling,
    limits: Limits,
    layout: LayoutMaker = PlainText,
    policy_version: int = 0,
    faults: Faults | None = None,
    report: Callable[[int], None] = lambda games: None,
    speaker: Speaker = BUILT_IN,
) -> list[Episode]:
    """Play one episode per seed and return them in the order of ``seeds``. ``report`` hears how many games are over
    since it last heard.

    Each game has a cache row of its own; a game that ends makes room for the next one at once. What a game says
    depends on its seed, how often that stood in ``seeds`` before, and the weights only; with another engine than the
    built-in one (``speaker``) on its rounding too.

    Where environments fail, ``faults`` keeps count: a game that cannot go on is kept up to its last finished turn, and
    is left out where it has none, or where what it says first leaves no room for an utterance. Raises
    EnvironmentFailure where there are too many of them, ValueError where none begins for want of room.
    """
    rules = Rules(task, layout(actor.tokenizer), sampling, limits, policy_version)
    faults = faults or Faults(len(seeds), limits.max_failures)
    engine = speaker.conversations(actor, min(limits.parallel, len(seeds)), limits.max_tokens, sampling)
    games: dict[int, tuple[int, Game]] = {}  # by row: which of seeds, and the game
    episodes: dict[int, Episode] = {}
    waiting = iter(zip(range(len(seeds)), seeds, count_copies(seeds), strict=True))
    beginning: dict[Future[Game | None], tuple[int, Seat]] = {}  # which of seeds
    answering: dict[Future[Game | Episode | None], int] = {}  # row

    with limits.executor(make_env) as environments:

        def start(seat: Seat) -> None:
            """Let the next game begin on ``seat``; without one it is done with."""
            following = next(waiting, None)
            if following is None:
                seat.close()
            else:
                index, seed, copy = following
                beginning[environments.submit(begin, seat, seed, copy, rules)] = index, seat

        for _ in range(engine.rows):
            start(Seat(make_env, faults, limits.retries))
        while beginning or answering or engine.active:
            # Whoever has answered goes on; nobody is waited for as long as there is something to decode.
            open_calls: list[Future[Any]] = [*beginning, *answering]
            ready = wait(open_calls, 0 if engine.active else None, FIRST_COMPLETED).done
            for begun in [future for future in beginning if future in ready]:
                index, seat = beginning.pop(begun)
                game = begun.result()
                if game is None:
                    report(1)
                    start(seat)
                else:
                    games[engine.open(game.told.ids, [game.seed, game.copy])] = index, game
            for answered in [future for future in answering if future in ready]:
                row = answering.pop(answered)
                index, game = games[row]
                outcome = answered.result()
                if isinstance(outcome, Game):
                    _read_on(engine, row, outcome)
                else:
                    if outcome is not None:
                        episodes[index] = outcome
                    report(1)
                    engine.close(row)
                    start(game.seat)
            if engine.active:
                for row in engine.step().tolist():
                    call = environments.submit(take_turn, games[row][1], engine.utterance(row), rules)
                    answering[call] = row
    return speaker.settled(actor, [episodes[index] for index in range(len(seeds)) if index in episodes])


def _read_on(engine: Conversations, row: int, game: Game) -> None:
    """Put before the agent what it has not read yet: what is new, or all where the old is not the beginning of it."""
    read, ids = engine.tokens(row), game.told.ids
    if len(ids) > len(read) and np.array_equal(ids[: len(read)], read):
        engine.give(row, ids[len(read) :])
    else:
        engine.restart(row, ids, [game.seed, game.copy, len(game.turns)])


def count_copies(seeds: Sequence[int]) -> list[int]:
    """How often each seed stands in the list before its place."""
    met: Counter[int] = Counter()
    found: list[int] = []
    for seed in seeds:
        found.append(met[seed])
        met[seed] += 1
    return found


def begin(seat: Seat, seed: int, copy: int, rules: Rules) -> Game | None:
    """A new game; None where its environment did not begin one, or says more at first than there is room for."""
    try:
        observation = seat.reset(seed)
    except GivenUp:
        seat.faults.give_up(dropped=True)
        return None
    told: Told = rules.prompts.open(observation)
    room, needed = rules.limits.max_tokens, len(told.ids) + rules.sampling.max_tokens
    if needed > room:
        reason = (
            f"rollout.max_tokens={room} is too small: the first observation of {rules.task!r} has {len(told.ids)} "
            f"tokens and an utterance may take {rules.sampling.max_tokens} more; raise it to {needed} at least, or let "
            "the environment say less"
        )
        seat.faults.note(Fault("too_long", reason), seed, 0)  # a fresh copy would say the same: not tried again
        seat.faults.give_up(dropped=True)
        return None
    seat.faults.begin()
    return Game(seat, seed, copy, observation, told)


def take_turn(game: Game, utterance: Utterance, rules: Rules) -> Game | Episode | None:
    """Hand an utterance to the environment: the game if it goes on, its episode if not, None where that is empty."""
    said = [turn.utterance.text for turn in game.turns]
    heard = [*(turn.observation for turn in game.turns), game.observation]
    state = game.told.ids
    try:
        aloud = [rules.prompts.aloud(text) for text in (*said, utterance.text)]
        step = game.seat.step(game.seed, aloud[:-1], heard, aloud[-1])
    except GivenUp as stopped:
        game.seat.faults.give_up(dropped=not game.turns)
        end = End.TIMEOUT if stopped.kind == "timeout" else End.ENV_ERROR
        return _episode(game, end, state, rules) if game.turns else None
    observation, reward, terminated, truncated, info = step
    game.turns.append(Turn(state, utterance, game.observation, reward, info))
    game.observation = observation
    told: Told = rules.prompts.answered(game.told, utterance.ids, utterance.text, observation, said)
    everything = told.ids
    room = rules.limits.max_tokens - rules.sampling.max_tokens
    game.told = HISTORIES[rules.limits.history](told, rules.prompts, observation, room)
    if terminated:
        return _episode(game, End.TERMINATED, everything, rules)
    reads = game.told.ids
    if truncated or len(game.turns) >= rules.limits.max_turns:
        return _episode(game, End.TURN_LIMIT, reads, rules)
    if len(reads) > room:
        return _episode(game, End.TOKEN_LIMIT, everything, rules)
    return game


def _episode(game: Game, end: End, final: Ids, rules: Rules) -> Episode:
    """The finished record of a game; of a last answer no more than fits where a model may end."""
    final = final[: rules.limits.max_tokens]
    return Episode(
        turns=share(game.turns, final),
        end=end,
        final_prompt_ids=final,
        seed=game.seed,
        task=rules.task,
        policy_version=rules.policy_version,
        final_observation=game.observation,
    )
