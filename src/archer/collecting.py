"""Conversations out of a policy: a trained run's, or the scripted players' that a task brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archer.api import LoadedRun
from archer.envs import Factory, make_factory, task_name
from archer.envs.base import (
    Demonstrated,
    Environment,
    Info,
    ScriptedGame,
    ScriptedTask,
    StepResult,
    check_reset,
    check_step,
    close,
    play_scripted,
)
from archer.rollout.engine import Sampling
from archer.rollout.play import play
from archer.types import Observation

PLAYERS = ("demonstrator", "reference")
"""Scripted players that a task may bring."""


def collect_scripted(player: str, make_env: Callable[[], Environment], games: int, seed: int) -> list[ScriptedGame]:
    """Games of the task's own ``demonstrator`` or ``reference``; ValueError where it has none."""
    env = make_env()
    if player == "reference" and isinstance(env, ScriptedTask):
        begin = env.reference
    elif player == "demonstrator" and isinstance(env, Demonstrated):
        begin = env.demonstrator
    else:
        raise ValueError(f"the task has no {player}(seed) to collect games of")
    # The player's seed is another one: a generator begun alike would know what the environment drew.
    return [play_scripted(env, begin(number + 1), number) for number in _seeds(games, seed)]


def collect_run(run: LoadedRun, games: int, seed: int, env: str | Factory | None = None) -> list[ScriptedGame]:
    """Games of a run's policy as it is, on its own task or on ``env``."""
    target = env if env is not None else run.config.env.name
    make_env = make_factory(target, run.config.env.options)
    kept: dict[int, _Kept] = {}
    seeds = _seeds(games, seed)
    play(
        run.actor, lambda: _Recorder(make_env(), kept), seeds,
        task=task_name(target), sampling=Sampling(run.config.rollout.utterance_tokens),
        limits=run.limits, layout=run.layout,
    )  # fmt: skip
    return [kept[number].game() for number in seeds]


def _seeds(games: int, seed: int) -> list[int]:
    """Seeds of collected games: even, like all that may be learned from, in a range of their own."""
    return [2 * (2_000_000_000_000 + seed * 10_000_019 + game) for game in range(games)]


class _Kept:
    """What was said and heard in one game."""

    def __init__(self, first: Observation) -> None:
        self.heard = [first]
        self.said: list[str] = []
        self.rewards: list[float] = []
        self.infos: list[Info] = []
        self.terminated = False

    def game(self) -> ScriptedGame:
        return ScriptedGame(
            observations=tuple(self.heard[:-1]),
            utterances=tuple(self.said),
            rewards=tuple(self.rewards),
            infos=tuple(self.infos),
            terminated=self.terminated,
            final_observation=self.heard[-1],
        )


class _Recorder:
    """An environment that keeps its games by their seeds."""

    def __init__(self, env: Environment, kept: dict[int, _Kept]) -> None:
        self._env, self._all = env, kept

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, Info]:
        observation, info = check_reset(self._env.reset(seed=seed))
        assert seed is not None
        self._all[seed] = self._game = _Kept(observation)
        return observation, info

    def step(self, utterance: str) -> StepResult:
        observation, reward, terminated, truncated, info = check_step(self._env.step(utterance))
        self._game.said.append(utterance)
        self._game.heard.append(observation)
        self._game.rewards.append(reward)
        self._game.infos.append(info)
        self._game.terminated = terminated
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        close(self._env)
