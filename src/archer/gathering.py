"""Where an iteration's games come from: played before the learner goes on, or while it was at work on the last ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from archer.evaluation import training_seed
from archer.models.actor import Actor
from archer.rollout.seat import Faults
from archer.run import Run
from archer.types import Episode


@dataclass(frozen=True)
class Games:
    """The games of one iteration."""

    episodes: list[Episode]
    faults: Faults
    """What failed in their environments."""
    seconds: float
    """How long it took to play them."""

    @property
    def speed(self) -> dict[str, float]:
        """As metrics."""
        tokens = sum(episode.tokens_said for episode in self.episodes)
        return {
            "time/games_per_s": len(self.episodes) / self.seconds,
            "time/tokens_per_s": tokens / self.seconds,
        }


def collect(run: Run, actor: Actor, iteration: int, policy_version: int) -> Games:
    """The games of ``iteration``, ``rollout.group`` of each task seed, as ``actor`` plays them."""
    began = time.perf_counter()
    rollout = run.config.rollout
    first = run.games_before + (iteration - 1) * rollout.games
    seeds = [training_seed(run.config.seed, number // rollout.group) for number in range(first, first + rollout.games)]
    faults = Faults(len(seeds), rollout.max_failures)
    episodes = run.player(rollout.best_of)(
        actor, run.environments, seeds,
        task=run.task, sampling=run.sampling, limits=run.limits, layout=run.layout, policy_version=policy_version,
        faults=faults,
    )  # fmt: skip
    return Games(episodes, faults, time.perf_counter() - began)


class _Ahead:
    """Plays the next iteration's games with the behavior policy, in a thread of its own, while the learner updates.

    Each iteration's games are played with the weights of one iteration before, however fast either side is: what a run
    learns does not depend on the machine, and a resumed run goes on as it would have.
    """

    def __init__(self, run: Run, thread: ThreadPoolExecutor) -> None:
        self._run = run
        self._thread = thread
        self._coming: Future[Games] | None = None

    def __call__(self) -> Games:
        number = self._run.iteration + 1
        games = (self._coming or self._begin(number)).result()
        self._run.agent.follow()
        if number < self._run.config.iterations:
            self._coming = self._begin(number + 1)
        return games

    def _begin(self, iteration: int) -> Future[Games]:
        agent = self._run.agent
        assert agent.behavior is not None, "assembled with the run"
        return self._thread.submit(collect, self._run, agent.behavior, iteration, agent.behavior_version)


@contextmanager
def gathering(run: Run) -> Iterator[Callable[[], Games]]:
    """Within, each call gives the next iteration's games."""
    if not run.config.rollout.overlap:
        yield lambda: collect(run, run.agent.policy, run.iteration + 1, run.agent.policy_version)
        return
    thread = ThreadPoolExecutor(1, "player")
    try:
        yield _Ahead(run, thread)
    finally:  # after an error nobody waits for games that nobody will see
        thread.shutdown(wait=False, cancel_futures=True)
