"""Where an iteration's games come from: played before the learner goes on, while it was at work, or elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from archer.models.actor import Actor
from archer.rollout.company import Games
from archer.rollout.seat import Faults
from archer.run import Run
from archer.seeds import training_seeds, whole_groups


def collect(run: Run, actor: Actor, iteration: int, policy_version: int, aside: bool = False) -> Games:
    """The games of ``iteration``, ``rollout.group`` of each task seed, as ``actor`` plays them; ``aside`` in a thread
    beside the learner's."""
    began = time.perf_counter()
    rollout = run.config.rollout
    first = whole_groups(run.games_before, rollout.group) + (iteration - 1) * rollout.games
    seeds = training_seeds(run.config.seed, range(first, first + rollout.games), rollout.group)
    faults = Faults(len(seeds), rollout.max_failures)
    episodes = run.player(rollout.best_of)(
        actor, run.environments, seeds,
        task=run.task, sampling=run.sampling, limits=run.limits, layout=run.layout, policy_version=policy_version,
        faults=faults, aside=aside,
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
        return self._thread.submit(collect, self._run, agent.behavior, iteration, agent.behavior_version, aside=True)


@contextmanager
def gathering(run: Run) -> Iterator[Callable[[], Games]]:
    """Within, each call gives the next iteration's games."""
    agent, company = run.agent, run.company
    if company is not None:
        yield lambda: company.gather(run.iteration + 1, agent.policy, agent.critic, agent.policy_version)
        return
    if not run.config.rollout.overlap:
        yield lambda: collect(run, agent.policy, run.iteration + 1, agent.policy_version)
        return
    thread = ThreadPoolExecutor(1, "player")
    try:
        yield _Ahead(run, thread)
    finally:  # what has not begun is not played any more; the games under way are, before the process can end
        thread.shutdown(wait=False, cancel_futures=True)
