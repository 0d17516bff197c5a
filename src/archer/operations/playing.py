"""One game with a person at the table, turn by turn: what the agent might say, what its critic thinks of that, and what
comes of it. In the terminal and in the browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from archer.api import LoadedRun, load, load_chooser
from archer.envs import Factory
from archer.envs.base import Environment, check_reset, check_step, close
from archer.envs.hosting import Hosting
from archer.models.critic import Critic
from archer.operations.scoring import Score, score_episodes
from archer.report.console import observation_line, printable
from archer.rollout.decoders import refresh
from archer.rollout.play import Rules, begin, host, take_turn
from archer.rollout.seat import Faults, Seat
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode, Ids, Observation, Turn, Utterance, moment


@dataclass(frozen=True)
class Candidate:
    """What an agent would say at a state."""

    utterance: Utterance
    times: int
    """How often it came up."""
    score: Score | None
    """None without a critic."""


class Advisor:
    """What a run's policy would say at a state, and what its critic thinks of that. Not for several threads at once."""

    def __init__(self, run: LoadedRun, critic: Critic | None) -> None:
        self.run, self.critic = run, critic
        refresh(run.actor)
        self._sampler = SiblingSampler(run.actor, run.sampling)

    def offer(self, state: Ids, count: int, seed: Sequence[int]) -> list[Candidate]:
        """``count`` utterances drawn as the agent plays, each different one once, in the order in which they came."""
        (drawn,) = self._sampler.at([state], count, [seed])
        times: dict[bytes, int] = {}
        different: list[Utterance] = []
        for utterance in drawn:
            key = utterance.ids.tobytes()
            times[key] = times.get(key, 0) + 1
            if times[key] == 1:
                different.append(utterance)
        scores = self.judge(state, different)
        return [
            Candidate(utterance, times[utterance.ids.tobytes()], score)
            for utterance, score in zip(different, scores, strict=True)
        ]

    def judge(self, state: Ids, utterances: Sequence[Utterance]) -> list[Score | None]:
        """The critic's view of each; None without a critic."""
        if self.critic is None:
            return [None] * len(utterances)
        found = score_episodes(self.run, self.critic, [moment(state, utterance) for utterance in utterances])
        return [scores[0] for scores in found]


class Sitting:
    """One game that goes on when somebody says something."""

    def __init__(self, advisor: Advisor, make_env: Callable[[], Environment], seed: int) -> None:
        """Begin the game of ``seed``; EnvironmentFailure where it does not begin, ValueError where it has no room."""
        run = advisor.run
        self.advisor, self.seed = advisor, seed
        self.scores: list[Score | None] = []
        """Of every turn, as it was said."""
        self.episode: Episode | None = None
        """The whole game, once it is over."""
        task = run.config.env.name or "conversation"
        self._rules = Rules(task, run.layout(run.actor.tokenizer), run.sampling, run.limits, policy_version=0)
        self._seat = Seat(make_env, Faults(1, run.limits.max_failures), run.limits.retries)
        game = begin(self._seat, seed, 0, self._rules)
        assert game is not None, "where no game is left, the account of failures raises"
        self._game = game

    @property
    def turns(self) -> Sequence[Turn]:
        """What was said so far."""
        return self._game.turns

    @property
    def observation(self) -> Observation:
        """What was heard last."""
        return self._game.observation

    @property
    def end(self) -> End | None:
        """Why it is over; None while it is not."""
        return None if self.episode is None else self.episode.end

    def offer(self, count: int) -> list[Candidate]:
        """What the agent would say now; the same whenever it is asked in this state."""
        return self.advisor.offer(self._game.told.ids, count, [self.seed, len(self.turns), 0])

    def typed(self, text: str) -> Utterance:
        """A person's words as an utterance; ValueError where the agent could not have said them."""
        if self._rules.prompts.one_line and "\n" in text:
            raise ValueError("an utterance of this run is one line")
        ids, most = self._rules.prompts.utterance(self._game.told, text), self._rules.sampling.max_tokens
        if len(ids) > most:
            raise ValueError(f"that has {len(ids)} tokens, and an utterance of this run at most {most}")
        return Utterance(ids, np.full(len(ids), np.nan, np.float32), text)

    def say(self, utterance: Utterance) -> None:
        """Hand it to the environment; EnvironmentFailure where that fails: it may be tried again."""
        (score,) = self.advisor.judge(self._game.told.ids, [utterance])
        outcome = take_turn(self._game, utterance, self._rules)
        self.scores.append(score)
        if isinstance(outcome, Episode):
            self.episode = outcome

    def close(self) -> None:
        """Done with the environment."""
        self._seat.close()


def favourite(candidates: Sequence[Candidate]) -> Candidate:
    """What the critic likes best, of several the one that came first; without a critic the first."""
    return max(candidates, key=lambda candidate: candidate.score.q if candidate.score else 0.0)


class Person:
    """An environment whose words are a person's.

    answer: from what the agent said to the person's answer, and whether it ends the game.
    """

    def __init__(self, first: Observation, answer: Callable[[str], tuple[str, bool]]) -> None:
        self._first, self._answer = first, answer

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[Observation, dict[str, object]]:
        return self._first, {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        answer, over = self._answer(utterance)
        return answer, 0.0, over, False, {}


def play_as_agent(env: Environment, seed: int, console: Console) -> None:
    """A person writes the agent's utterances; no agent is needed."""
    observation, _ = check_reset(env.reset(seed=seed))
    total, over = 0.0, False
    while not over:
        console.print(Text(observation_line(observation), style="dim"))
        observation, reward, terminated, truncated, _ = check_step(env.step(console.input("you: ")))
        total += reward
        over = terminated or truncated
    console.print(Text(observation_line(observation), style="dim"))
    console.print(Text(f"{'ended' if terminated else 'stopped by the limit'}, return {total:g}", style="bold"))


def play_as_environment(
    run: Path, seed: int, console: Console, best_of: int = 0, env: str | Factory | None = None
) -> None:
    """A person answers a trained agent, whose critic chooses among ``best_of`` utterances if asked to, after what the
    run's environment, or ``env``, says first."""
    loaded = load(run)
    count = best_of or loaded.config.eval.best_of
    advisor = Advisor(loaded, load_chooser(loaded) if count else None)
    first = opening(loaded, seed, env)
    console.print(Text(f"{observation_line(first)}  (you answer the agent; an empty line ends the game)", style="dim"))

    def answer(said: str) -> tuple[str, bool]:
        console.print(Text(f"agent: {printable(said)}", style="cyan"))
        typed = console.input("you: ")
        return typed, not typed

    sitting = Sitting(advisor, lambda: Person(first, answer), seed)
    while sitting.end is None:
        sitting.say(favourite(sitting.offer(max(1, count))).utterance)


def opening(run: LoadedRun, seed: int, env: str | Factory | None = None) -> Observation:
    """What the run's environment, or ``env``, says first in the game of ``seed``."""
    with hosted(run, env) as environments:
        copy = environments()
        try:
            return check_reset(copy.reset(seed=seed))[0]
        finally:
            close(copy)


def hosted(run: LoadedRun, env: str | Factory | None = None) -> Hosting:
    """Copies of the run's environment, or of ``env``, as its settings have them answer; ValueError where they cannot be
    made."""
    return host(run.task(env)[1], run.config.rollout)
