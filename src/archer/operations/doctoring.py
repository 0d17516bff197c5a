"""How healthy a run's critic is: measured on games that it never learned from, with how that came about in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archer.api import LoadedRun, load_critic
from archer.envs import Factory
from archer.evaluation import evaluate_actor
from archer.health.critic import value_turns
from archer.health.diagnosis import Diagnosis, diagnose
from archer.health.numbers import Health, ValuedTurns, measure_health
from archer.models.critic import Critic
from archer.progress import Progress
from archer.rollout.play import host
from archer.types import Episode

EPISODES = 200
"""Games to play: with those of Twenty Questions the sign share is known to about 0.04."""
FOLLOWED = ("return_correlation", "sign_share", "relative_twin_gap")
"""Numbers whose course in training is told."""


@dataclass(frozen=True)
class Examination:
    """What was found out about a critic."""

    turns: ValuedTurns
    health: Health
    diagnosis: Diagnosis
    development: tuple[Mapping[str, float | None], ...]
    """``iteration`` and the followed numbers as training logged them: first, in the middle and last; empty where it
    logged none, None where a number was not defined."""

    def summary(self) -> dict[str, Any]:
        """Verdict, reasons, numbers and development as plain values."""
        return {
            "verdict": str(self.diagnosis.verdict),
            "reasons": list(self.diagnosis.reasons),
            "health": dataclasses.asdict(self.health) | {"relative_twin_gap": self.health.relative_twin_gap},
            "development": [dict(row) for row in self.development],
        }


def examine(
    run: LoadedRun, *, episodes: int = EPISODES, env: str | Factory | None = None, progress: Progress | None = None
) -> Examination:
    """Let the run play evaluation games, which are never trained on, as it does, and hold its critic against them.

    Raises ValueError where the environment cannot be made or the run has no critic.
    """
    critic = load_critic(run)
    progress = progress or Progress(quiet=True)
    try:
        task, make_env = run.task(env)
    except ValueError as error:
        raise ValueError(f"{error}; without its environment a critic is examined on conversations in a file") from error
    progress.stage("playing", episodes, unit="games")
    with host(make_env, run.config.rollout) as environments:
        played = evaluate_actor(
            run.actor, environments, episodes,
            task=task, sampling=run.sampling,
            limits=run.limits, layout=run.layout, policy_version=0,
            player=run.player(run.config.eval.best_of), report=progress.count,
        )  # fmt: skip
    return examine_episodes(run, critic, played, progress)


def examine_episodes(
    run: LoadedRun, critic: Critic, episodes: Sequence[Episode], progress: Progress | None = None
) -> Examination:
    """Hold a critic that is at hand against played games."""
    progress = progress or Progress(quiet=True)
    progress.stage("judging", len(episodes), unit="games")
    turns = value_turns(critic, episodes, run.config.critic, progress.count)
    health = measure_health(turns)
    logged = run.folder.metrics()
    return Examination(turns, health, diagnose(health, logged), _development(logged))


def _development(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, float | None], ...]:
    logged = [row for row in rows if "critic/nonfinite" in row]
    chosen = sorted({0, len(logged) // 2, len(logged) - 1}) if logged else []
    return tuple(
        {"iteration": logged[index]["iteration"]} | {name: logged[index].get(f"critic/{name}") for name in FOLLOWED}
        for index in chosen
    )
