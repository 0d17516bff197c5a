"""What a program does with a finished run: load it, measure it, read its games."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from archer import devices
from archer.beginning import begin_critic, load_actor
from archer.config import ClusterConfig, RunConfig, ServerConfig
from archer.config.engines import EngineName
from archer.envs import Factory, make_factory, settings_name, task_name
from archer.envs.base import Environment
from archer.evaluation import evaluate_actor, reference_return
from archer.metrics import episode_metrics
from archer.models.actor import Actor
from archer.models.critic import Critic
from archer.progress import Progress
from archer.report.curve import draw_curve
from archer.report.notebook import facts_html
from archer.rollout.best_of import player_of
from archer.rollout.engines import engine_of
from archer.rollout.layouts import layout_of
from archer.rollout.play import Limits, host
from archer.rollout.prompts import LayoutMaker
from archer.rollout.sampling import Sampling
from archer.rollout.speaking import Speaker
from archer.storage.checkpoint import CheckpointError, latest_checkpoint, load_module
from archer.storage.runfolder import RunFolder
from archer.storage.shards import SCHEMA
from archer.types import Episode


@dataclass(frozen=True)
class LoadedRun:
    """A run's policy as its newest checkpoint has it; nothing in the folder is touched."""

    folder: RunFolder
    config: RunConfig
    actor: Actor
    checkpoint: Path

    @property
    def iteration(self) -> int:
        """Iterations of training behind it."""
        return int(self.checkpoint.name)

    @property
    def layout(self) -> LayoutMaker:
        return layout_of(self.config.rollout)

    @property
    def limits(self) -> Limits:
        return Limits.of(self.config.rollout)

    @property
    def sampling(self) -> Sampling:
        return Sampling.of(self.config.rollout)

    def episodes(self, iterations: Sequence[int] | None = None) -> pa.Table:
        """The games played for training, all of them or those of some iterations, one row each; columns as in the
        shards (``task``, ``seed``, ``return``, ``turns``, …). ``.to_pandas()`` makes a data frame of it."""
        wanted = set(iterations) if iterations is not None else None
        shards = [
            shard
            for shard in sorted(self.folder.episodes.glob("*.parquet"))
            if wanted is None or int(shard.stem) in wanted
        ]
        tables = [pq.read_table(shard) for shard in shards]
        return pa.concat_tables(tables, promote_options="default") if tables else SCHEMA.empty_table()

    def plot(self) -> Figure:
        """The learning curve, as a Matplotlib figure; ValueError where nothing was measured yet."""
        rows = self.folder.metrics()
        if not rows or rows[0].get("eval/return_mean") is None:
            raise ValueError(f"{self.folder.path} has no evaluation to draw from")
        start, best = rows[0]["eval/return_mean"], rows[0].get("eval/reference_return")
        return draw_curve(rows, start_return=start, reference_return=best, title=str(self.folder.path))

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        rows = self.folder.metrics()
        measured = [row["eval/return_mean"] for row in rows if row.get("eval/return_mean") is not None]
        facts = {
            "run": self.folder.path, "task": self.config.env.name, "preset": self.config.preset,
            "iterations": self.iteration, "games": int(rows[-1]["games"]) if rows else 0,
            "return": " → ".join(f"{value:.2f}" for value in (measured[:1] + measured[-1:] if measured else [])),
        }  # fmt: skip
        return facts_html(facts)

    def task(self, env: str | Factory | None) -> tuple[str, Callable[[], Environment]]:
        """What is played, by name, and what makes copies of it: ``env``, or the run's own environment; ValueError where
        there is neither. The run's options are of its own, or of the class that it was trained with; another that is
        named has none."""
        own = self.config.env
        target = env if env is not None else own.name
        if target is None:
            raise ValueError(
                f"{self.folder.path} learned from files alone and has no environment; name one (--env, or env=... in "
                "Python)"
            )
        named = isinstance(target, str) and target != own.name
        return task_name(target), make_factory(target, {} if named else own.options)

    @cached_property
    def engine(self) -> Speaker:
        """What says the utterances of games: the engine that the run's settings name."""
        return engine_of(self.config)

    def player(self, best_of: int) -> Callable[..., list[Episode]]:
        """How to play: the policy's first word, or the critic's choice among ``best_of`` of them."""
        return player_of(best_of, load_chooser(self) if best_of else None, self.engine)


def load(run: str | Path, *, engine: EngineName | None = None) -> LoadedRun:
    """Read a run's policy; raises RunFolderError or CheckpointError with what is missing. A run that was trained on a
    device which this machine lacks is loaded onto the CPU, with a warning.

    engine: what plays, in the place of the engine that the run was trained with.
    """
    folder = RunFolder.open(Path(run))
    config = _here(folder.config())
    if engine is not None and engine != config.rollout.engine:
        config = replace(config, rollout=replace(config.rollout, engine=engine, server=ServerConfig(), vllm={}))
    checkpoint = latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        raise CheckpointError(
            f"{run} has no checkpoint yet; where it is not running, let it go on: archer train --resume {run}"
        )
    return LoadedRun(folder, config, load_actor(config, checkpoint), checkpoint)


class OtherDevice(UserWarning):
    """A run is not where it was trained."""


def _here(config: RunConfig) -> RunConfig:
    """The settings where the device is one that this machine has."""
    try:
        devices.check(config.device)
    except ValueError as error:
        warnings.warn(f"{str(error).partition(';')[0]}; the run is loaded onto the CPU", OtherDevice, stacklevel=3)
        # What only learning needs may ask for that device.
        learning: dict[str, Any] = {name: replace(part, states="float32") for name, part in config.optimized.items()}
        return replace(config, device="cpu", cluster=ClusterConfig(), **learning)
    return config


def load_critic(run: LoadedRun) -> Critic:
    """The critic that was trained beside a run's policy; ValueError where the method has none."""
    if run.config.critic.method == "none":
        raise ValueError(f"{run.folder.path} has no critic: it was trained with critic.method='none'")
    saved = run.checkpoint / "critic.safetensors"
    if not saved.is_file():
        raise CheckpointError(f"{run.folder.path} has no critic: {saved} is missing")
    critic = begin_critic(run.config, run.actor, [])
    load_module(saved, critic)
    return critic


def load_chooser(run: LoadedRun) -> Critic:
    """The critic, to choose utterances by; ValueError where it cannot."""
    if run.config.critic.method == "tokens":
        raise ValueError(f"the critic of {run.folder.path} values single tokens and has no Q to choose by")
    return load_critic(run)


def evaluate(
    run: LoadedRun,
    *,
    episodes: int = 1000,
    temperature: float | None = None,
    best_of: int = 0,
    env: str | Factory | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Let the policy play evaluation games; ``return_mean`` with ``return_ci95``, ``win_rate``, ``start_return``,
    ``reference_return`` (None where unknown), ``temperature`` and ``episodes``. One game has no interval:
    ``return_ci95`` is None. With another ``temperature`` than its games were played at, 0 being always the
    most likely token, ``start_return`` is None too, as no start was measured so.

    With ``best_of``, or in a run that has ``eval.best_of``, the same games are played once more, the critic choosing
    among that many sampled utterances in each turn; what comes of it stands beside the policy's own results, in
    ``best_of_return_mean`` and so on. So does the start of a run that was measured with that choice. At temperature 0
    all samples would be the same, and the policy plays alone.
    """
    if temperature is None:
        temperature = run.sampling.temperature
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 (the most likely token) or more, got {temperature}")
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if best_of < 0:
        raise ValueError(f"best_of must not be negative, got {best_of}")
    sampling = replace(run.sampling, temperature=temperature)
    if sampling.greedy and best_of:
        raise ValueError(
            "best_of chooses among samples, and at temperature 0 they are all the same: leave one of them out"
        )
    task, make_env = run.task(env)
    own_task = env is None or run.config.env.name == (env if isinstance(env, str) else settings_name(env))
    as_trained = temperature == run.sampling.temperature and own_task
    progress = progress or Progress(quiet=True)
    own = run.config.eval.best_of
    chosen = 0 if sampling.greedy else best_of or own
    players = {count: run.player(count) for count in {0, chosen}}  # what cannot play says so before anything is played
    with host(make_env, run.config.rollout) as environments:
        measure = partial(
            evaluate_actor, run.actor, environments, episodes,
            task=task, sampling=sampling, limits=run.limits, layout=run.layout, policy_version=0,
            report=progress.count,
        )  # fmt: skip
        progress.stage("playing", episodes, unit="games")
        found = _outcome(measure(player=players[0]))
        if chosen:
            progress.stage(f"playing, the best of {chosen}", episodes, unit="games")
            beside = _outcome(measure(player=players[chosen]))
            found |= {"best_of": chosen} | {f"best_of_{key}": value for key, value in beside.items()}
    rows = run.folder.metrics()
    start = rows[0].get("eval/return_mean") if rows else None
    if own and chosen == own and as_trained:
        found["best_of_start_return"] = start
    return found | {
        "start_return": start if as_trained and not own else None,
        "reference_return": reference_return(make_env),
        "temperature": temperature,
        "episodes": episodes,
        "games_trained": int(rows[-1]["games"]) if rows else 0,
    }


def _outcome(played: list[Episode]) -> dict[str, Any]:
    """What games came to: mean return with its interval, share of games won, turns."""
    found = episode_metrics(played, "eval")
    half_width = found["eval/return_ci95"]
    return {
        "return_mean": found["eval/return_mean"],
        "return_ci95": half_width if math.isfinite(half_width) else None,
        "win_rate": found.get("eval/win_rate"),
        "length": found["eval/length"],
    }
