"""A player: a copy of the policy (and of the critic, where that chooses) with environments of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn

from archer.beginning import begin_critic, load_actor
from archer.cluster.records import TRAINING, Delivery, Work
from archer.config import RunConfig
from archer.envs import Factory, make_factory, task_name
from archer.models.actor import Actor
from archer.models.critic import Critic
from archer.rollout.best_of import player_of
from archer.rollout.engines import engine_of
from archer.rollout.layouts import layout_of
from archer.rollout.play import Limits, host
from archer.rollout.sampling import Sampling
from archer.rollout.seat import Faults
from archer.run import prepare
from archer.seeds import training_seeds, whole_groups
from archer.storage.shards import pack

POLICY = "policy"


@dataclass(frozen=True)
class Kit:
    """What every player is equipped with."""

    config: RunConfig
    target: str | Factory
    """The environment's name, class or factory."""
    games_before: int
    """Games played by the run that this one goes on from."""
    policy: Mapping[str, bytes]
    """The files of a saved actor; of an adapter, that alone: the model it is on is loaded by `model.actor`."""


@dataclass(frozen=True)
class Weights:
    """What plays, as it is at some moment."""

    publication: int
    iteration: int
    """Iterations that it has learned from."""
    policy_version: int
    policy: Mapping[str, Tensor]
    critic: Mapping[str, Tensor] | None

    @classmethod
    def of(cls, publication: int, iteration: int, policy_version: int, policy: Actor, critic: Critic | None) -> Weights:
        """Those of networks; with adapters, these alone."""
        return cls(publication, iteration, policy_version, _state(policy), None if critic is None else _state(critic))


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}


def saved(policy: Actor) -> dict[str, bytes]:
    """The files of an actor, by name."""
    with TemporaryDirectory() as folder:
        policy.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


class Player:
    """Plays what it is handed, with the weights that it was last given."""

    def __init__(self, kit: Kit, name: str) -> None:
        self.name, self._kit = name, kit
        config = kit.config
        prepare(config)
        with TemporaryDirectory() as folder:
            path = Path(folder) / POLICY
            path.mkdir()
            for file, content in kit.policy.items():
                (path / file).write_bytes(content)
            self._policy = load_actor(config, Path(folder), POLICY)
        asks = config.rollout.best_of or config.eval.best_of
        self._critic = begin_critic(config, self._policy, []) if asks else None
        self._environments = host(make_factory(kit.target, config.env.options), config.rollout)
        self._engine = engine_of(config)
        self._engine.prepare(self._policy, Sampling.of(config.rollout))
        self._weights: Weights | None = None

    @property
    def publication(self) -> int:
        """Which weights it has, 0 for none yet."""
        return 0 if self._weights is None else self._weights.publication

    def take_over(self, weights: Weights) -> None:
        """Play with these from now on."""
        self._policy.load_state_dict(weights.policy)
        if self._critic is not None and weights.critic is not None:
            self._critic.load_state_dict(weights.critic)
        self._weights = weights

    def play(self, work: Work) -> Delivery:
        """Play all games of a piece of work."""
        weights, config = self._weights, self._kit.config
        assert weights is not None, "handed out with weights"
        began = time.perf_counter()
        seeds = work.seeds if work.job != TRAINING else self._seeds_of(work.part)
        # Whether too many of an iteration's games fail is seen where they come together.
        faults = Faults(len(seeds) + 1, 1.0)
        best_of = work.best_of if work.job != TRAINING else config.rollout.best_of
        episodes = player_of(best_of, self._critic, self._engine)(
            self._policy, self._environments, seeds,
            task=task_name(self._kit.target), sampling=Sampling.of(config.rollout), limits=Limits.of(config.rollout),
            layout=layout_of(config.rollout), policy_version=weights.policy_version, faults=faults,
        )  # fmt: skip
        return Delivery(
            player=self.name,
            job=work.job,
            part=work.part,
            publication=weights.publication,
            iteration=weights.iteration,
            shard=pack(episodes, weights.iteration),
            tally=asdict(faults.tally),
            seconds=time.perf_counter() - began,
        )

    def _seeds_of(self, chunk: int) -> list[int]:
        rollout = self._kit.config.rollout
        games = self._kit.config.cluster.share(rollout.games, rollout.group)
        first = whole_groups(self._kit.games_before, rollout.group) + chunk * games
        return training_seeds(self._kit.config.seed, range(first, first + games), rollout.group)

    def close(self) -> None:
        """Done with the environments."""
        self._environments.close()
