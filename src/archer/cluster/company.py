"""The learner's side of a cluster: it gives out weights, takes in games, and has evaluations played."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from archer.cluster.actors import LedgerActor
from archer.cluster.crew import Crew, cause_of
from archer.cluster.joining import Cluster, joined
from archer.cluster.player import Kit, Weights, saved
from archer.cluster.records import Delivery, Entry, Terms, chunk_path
from archer.config import RunConfig
from archer.envs import Factory
from archer.models.actor import Actor
from archer.models.critic import Critic
from archer.rollout.company import Games
from archer.rollout.seat import Faults, Tally
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard, unpack
from archer.types import Episode

GOODBYE_S = 5.0
"""How long players may go on with what they have in hand when all is over."""


class RayCompany:
    """Players in a Ray cluster and the ledger beside the learner.

    folder: of the ledger, in the run's. games_before, iteration: those of the run as it begins or goes on.
    """

    def __init__(
        self,
        ray: Any,
        cluster: Cluster,
        config: RunConfig,
        target: str | Factory,
        folder: Path,
        *,
        games_before: int,
        iteration: int,
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._cluster, self._config, self._target = ray, cluster, config, target
        self._folder, self._games_before, self._say = folder, games_before, say
        rollout = config.rollout
        self._chunk = config.cluster.share(rollout.games, rollout.group)
        terms = Terms(
            chunks=rollout.games // self._chunk,
            iterations=config.iterations,
            lag=config.cluster.lag,
            overdue=config.cluster.overdue,
            keep=config.keep_checkpoints,
        )
        # Beside the learner, whose disk it writes to; a call that meets it dead is made again once it is back.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        actor = ray.remote(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=100_000, scheduling_strategy=here
        )(LedgerActor)
        self._ledger = actor.remote(folder.resolve(), terms, iteration)
        self._crew: Crew | None = None
        self._weights: tuple[int, int | None, list[Any]] = (0, None, [])  # publication, iteration, where they lie
        self._learned: int | None = None  # iterations that are behind the learner, once it has begun
        self._jobs = 0
        self._last = time.perf_counter()

    def gather(self, iteration: int, policy: Actor, critic: Critic | None, policy_version: int) -> Games:
        """The games of ``iteration``, by number; from now on players play with these networks as they are."""
        self._learned = iteration - 1
        if self._weights[1] != self._learned:  # else they were published to be measured
            self._publish(policy, critic, policy_version)
        began = time.perf_counter()
        entries: list[Entry] = self._answer(lambda: self._ledger.take.remote(iteration))
        now = time.perf_counter()
        faults = Faults(self._config.rollout.games, self._config.rollout.max_failures)
        for entry in entries:
            faults.add(Tally(**entry.tally))
        episodes = [episode for entry in entries for episode in read_shard(chunk_path(self._folder, entry.chunk))]
        behind = [self._learned - entry.iteration for entry in entries]
        account = {
            "rollout/policy_lag_max": float(policy_version - min(episode.policy_version for episode in episodes)),
            "rollout/iterations_behind": float(np.mean(behind)),
            "rollout/iterations_behind_max": float(max(behind)),
            "rollout/players": float(len({entry.player for entry in entries})),
            "time/waited_s": now - began,
        }
        games = Games(episodes, faults, now - self._last, account)
        self._last, self._learned = now, iteration
        return games

    def player(self, best_of: int, critic: Critic | None) -> Callable[..., list[Episode]]:
        """A function like ``play``, or with ``best_of`` like ``play_best_of``, for which all players play."""
        return partial(self._measure, best_of, critic)

    def _measure(
        self,
        best_of: int,
        critic: Critic | None,
        actor: Actor,
        make_env: object,
        seeds: Sequence[int],
        *,
        policy_version: int,
        report: Callable[[int], None] = lambda games: None,
        **same: object,
    ) -> list[Episode]:
        """What else a game depends on (``make_env`` and ``same``), players have from the run's settings themselves."""
        self._publish(actor, critic, policy_version)
        self._jobs += 1
        parts = [list(seeds[start : start + self._chunk]) for start in range(0, len(seeds), self._chunk)]
        found: int | list[Delivery] = 0
        while isinstance(found, int):
            before = found
            found = self._answer(partial(self._ledger.measure.remote, self._jobs, parts, best_of, before))
            over = found if isinstance(found, int) else len(found)
            report(min(len(seeds), self._chunk * over) - min(len(seeds), self._chunk * before))
        faults = Faults(len(seeds), self._config.rollout.max_failures)
        for delivery in found:
            faults.add(Tally(**delivery.tally))
        return [episode for delivery in found for episode in unpack(delivery.shard)]

    def _publish(self, policy: Actor, critic: Critic | None, policy_version: int) -> None:
        """Let all games that begin from now on be played with these weights."""
        config, publication = self._config, self._weights[0] + 1
        asks = config.rollout.best_of or config.eval.best_of
        weights = Weights.of(publication, self._learned or 0, policy_version, policy, critic if asks else None)
        self._weights = publication, self._learned, [self._ray.put(weights)]
        self._greet()
        if self._crew is None:
            kit = self._ray.put(Kit(config, self._target, self._games_before, saved(policy)))
            self._crew = Crew(
                self._ray, self._ledger, kit, self._cluster.workers, config.cluster.gpus, self._greet, self._say
            )

    def _greet(self) -> tuple[set[str], int]:
        seen, kept = self._told(self._ledger.publish.remote(*self._weights))
        return set(seen), int(kept)

    def _answer(self, question: Callable[[], Any]) -> Any:
        """Ask the ledger until it knows; raises what stopped the players, should they be stopped."""
        while True:
            assert self._crew is not None, "published before anything is asked"
            self._crew.check()
            answer = self._told(question())
            if answer is not None:
                return answer

    def _told(self, answer: Any) -> Any:
        """What the ledger says, or raises."""
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            cause = cause_of(error)
            if isinstance(cause, self._ray.exceptions.RayError):
                raise RuntimeError(f"the ledger of {self._folder} does not answer: {cause}") from error
            raise cause from error

    @property
    def present(self) -> int:
        """Players that have come."""
        return len(self._greet()[0])

    def close(self) -> None:
        """Send the players home and close the ledger."""
        with suppress(self._ray.exceptions.RayError):  # where the cluster is gone, so are they
            self._ray.get(self._ledger.close.remote(), timeout=GOODBYE_S)
        if self._crew is not None:
            self._crew.dismiss(GOODBYE_S)
        self._ray.kill(self._ledger)


Recruit = Callable[[str | Factory | None, RunFolder, int, int], AbstractContextManager[RayCompany | None]]
"""Given the environment, the run's folder, the games before it and its iteration: who plays, while a block runs."""


@contextmanager
def playing_on(cluster: Cluster | None, config: RunConfig, say: Callable[[str], None]) -> Iterator[Recruit]:
    """Connected to a cluster while the block runs, where there is one. Raises ValueError for settings of the other kind
    of run, and for a cluster that is not there."""
    if cluster is None:
        if config.cluster.chunk:
            raise ValueError(
                f"cluster.chunk={config.cluster.chunk}: the games of this run are played on a cluster; say which "
                "(--cluster ADDRESS, or --cluster local to start one here), or begin another run with cluster.chunk=0"
            )
        yield lambda *_: nullcontext()
        return
    if not config.cluster.chunk:
        raise ValueError(
            "cluster.chunk=0: the games of this run are played where it learns; leave out --cluster, or begin another "
            "with cluster.chunk=16, games for a player to play at once"
        )
    with joined(cluster) as ray:

        @contextmanager
        def recruit(
            target: str | Factory | None, folder: RunFolder, games_before: int, iteration: int
        ) -> Iterator[RayCompany]:
            assert target is not None, "refused with the settings: nothing to play"
            company = RayCompany(
                ray, cluster, config, target, folder.path / "ledger",
                games_before=games_before, iteration=iteration, say=say,
            )  # fmt: skip
            try:
                yield company
            finally:
                company.close()

        yield recruit
