"""Every setting of a run: typed, documented, checked before anything is loaded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from archer.config.combinations import check_combination, check_optimizers
from archer.config.engines import ServerConfig
from archer.config.kinds import STRICT, Natural, Positive
from archer.config.learning import (
    ActorConfig,
    ActorStartConfig,
    BaselineConfig,
    CloningConfig,
    CriticConfig,
    CriticStartConfig,
    EpochsConfig,
    OptimizerConfig,
    SupervisedConfig,
)
from archer.config.parts import (
    ClusterConfig,
    DemonstrationsConfig,
    EnvConfig,
    EvalConfig,
    LoraConfig,
    ModelConfig,
    RolloutConfig,
    TinyConfig,
)

__all__ = [
    "ActorConfig",
    "ActorStartConfig",
    "BaselineConfig",
    "CloningConfig",
    "ClusterConfig",
    "CriticConfig",
    "CriticStartConfig",
    "DemonstrationsConfig",
    "EnvConfig",
    "EpochsConfig",
    "EvalConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RolloutConfig",
    "RunConfig",
    "ServerConfig",
    "SupervisedConfig",
    "TinyConfig",
]


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """A whole run. The defaults are one vetted run of the 10-object game; anything else is an experiment."""

    preset: str = "archer"
    """The preset whose recipe these settings began with; `archer.configure`, `--set` and YAML files choose it by this
    name."""
    env: EnvConfig = Field(default_factory=EnvConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    start_from: str | None = None
    """Folder of a run to begin with: its actor, its demonstrations, and its critic if this run has one of the kind.
    Nothing is cloned then."""
    demonstrations: DemonstrationsConfig = Field(default_factory=DemonstrationsConfig)
    supervised: SupervisedConfig = Field(default_factory=SupervisedConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    critic_start: CriticStartConfig = Field(default_factory=CriticStartConfig)
    actor_start: ActorStartConfig = Field(default_factory=ActorStartConfig)
    critic: CriticConfig = Field(default_factory=CriticConfig)
    actor: ActorConfig = Field(default_factory=ActorConfig)
    baseline: BaselineConfig = Field(default_factory=BaselineConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    iterations: Natural = 30
    """Iterations of play and learning; 0 stops at the supervised start."""
    warmup: Natural = 0
    """First iterations, in which only the critic learns, so that the first advantages are not noise."""
    replay_turns: Natural = 30_000
    """Turns that replay holds; the oldest games are forgotten beyond it. 0 holds the newest iteration: on-policy."""
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    """Every random draw of the run derives from it."""
    device: str = "cpu"
    """Torch device of the learner and the players."""
    threads: Natural = 0
    """CPU threads of torch; 0 leaves torch's choice. A resumed run is exact only with the same number."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints that are kept."""

    @property
    def plays_as_measured(self) -> bool:
        """Whether games to learn from are played as the agent is evaluated, and so measure it too."""
        return self.rollout.best_of == self.eval.best_of

    @property
    def optimized(self) -> dict[str, OptimizerConfig]:
        """The settings of all that learns, by name."""
        names = ("supervised", "critic_start", "actor_start", "critic", "actor", "baseline")
        return {name: getattr(self, name) for name in names}

    def __post_init__(self) -> None:
        check_optimizers(self.device, self.model.sharding, self.optimized)
        check_combination(
            self.model, self.demonstrations, self.supervised, self.rollout, self.critic_start, self.actor_start,
            self.critic, self.actor, self.eval, self.cluster,
            has_env=self.env.name is not None,
            starts_from_run=self.start_from is not None,
            iterations=self.iterations,
            replay_turns=self.replay_turns,
            device=self.device,
        )  # fmt: skip
