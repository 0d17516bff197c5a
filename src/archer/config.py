"""Every setting of a run: typed, documented, checked before anything is loaded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")

# Strict, so that `true` is not taken for 1.
Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Several = Annotated[int, Field(ge=2, strict=True)]
Rate = Annotated[float, Field(gt=0, lt=1, strict=True)]
MatrixRate = Annotated[float, Field(ge=0, lt=1, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Weight = Annotated[float, Field(ge=0, strict=True)]
Norm = Annotated[float, Field(gt=0, strict=True)]


@dataclass(frozen=True, config=_STRICT)
class EnvConfig:
    """The task."""

    name: str = "twenty-questions-10"
    """A name from `archer envs`, or `package.module:Name` of a class or factory of your own."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment."""


@dataclass(frozen=True, config=_STRICT)
class TinyConfig:
    """Size of the built-in models, used where no path or name is given."""

    layers: Positive = 1
    """Decoder blocks."""
    width: Positive = 128
    """Hidden size; a multiple of `heads`."""
    heads: Positive = 4
    """Attention heads."""
    vocabulary: Annotated[int, Field(ge=300, strict=True)] = 2048
    """Most entries of the tokenizer that is trained on the demonstrations."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The networks."""

    actor: str | None = None
    """Folder or hub name of any causal LM; none for the built-in tiny decoder."""
    critic: Literal["causal", "encoder"] = "causal"
    """`causal`: one pass of a decoder values a whole game. `encoder`: the paper's, state and utterance apart."""
    critic_model: str | None = None
    """Folder or hub name of the critic's network; none for a copy of the actor (causal) or a tiny encoder."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the learner's matrix products; weights, losses and playing stay float32."""
    tiny: TinyConfig = Field(default_factory=TinyConfig)
    """Size of the built-in models."""


@dataclass(frozen=True, config=_STRICT)
class OptimizerConfig:
    """How a network follows its gradient."""

    lr: Rate = 1e-3
    """AdamW's learning rate, at its highest."""
    matrix_lr: MatrixRate = 0.0
    """Muon's learning rate for hidden weight matrices; 0 leaves them to AdamW."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    clip: Norm = 1.0
    """Largest gradient norm."""


@dataclass(frozen=True, config=_STRICT)
class DemonstrationsConfig(OptimizerConfig):
    """Learning from the demonstrations, pass by pass; the learning rates warm up and decay."""

    epochs: Natural = 0
    """Passes over the demonstrations; 0 leaves them out."""
    batch_games: Positive = 16
    """Games per gradient step."""


@dataclass(frozen=True, config=_STRICT)
class SupervisedConfig(DemonstrationsConfig):
    """The supervised start."""

    lr: Rate = 0.01
    matrix_lr: MatrixRate = 0.01
    epochs: Positive = 1
    batch_games: Positive = 8
    games: Natural = 12_000
    """Demonstrations to clone; 0 starts from the actor as it is."""
    answer_weight: Weight = 1.0
    """Weight of predicting the environment's answers too; 0 clones utterances only."""


@dataclass(frozen=True, config=_STRICT)
class RolloutConfig:
    """Playing."""

    games: Positive = 192
    """Games per iteration."""
    parallel: Positive = 192
    """Games played at once."""
    utterance_tokens: Positive = 16
    """Longest utterance, stop token included."""
    layout: Literal["plain", "transcript", "minutes"] = "transcript"
    """An answer as the agent gets it: `plain` as it is, `transcript` with what it answers, `minutes` the one, then the
    other, and marked where it was asked before."""
    max_turns: Positive = 50
    """Turns after which a game is truncated if its environment has not ended it."""
    max_tokens: Annotated[int, Field(ge=16, strict=True)] = 512
    """Longest conversation."""


@dataclass(frozen=True, config=_STRICT)
class CriticConfig(OptimizerConfig):
    """The high level: what an utterance is worth."""

    method: Literal["td", "sarsa", "iql", "mc"] = "td"
    """`td`: ArCHer's, V follows the policy. `sarsa`: V of what was played. `iql`: an expectile of it. `mc`: returns."""
    matrix_lr: MatrixRate = 2e-3
    updates: Positive = 40
    """Gradient steps per iteration."""
    batch_turns: Positive = 96
    """Turns per gradient step, in whole games."""
    discount: Fraction = 0.9
    """γ between utterances. Tokens inside one utterance are never discounted."""
    trace: Fraction = 0.9
    """λ of the return that Q learns: 0 is one-step TD (the paper), 1 is Monte Carlo; `mc` always has 1."""
    expectile: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.9
    """`iql` only: expectile of Q over played utterances that V learns; 0.5 is their mean."""
    answer_weight: Weight = 1.0
    """Weight of predicting the environment's answers (nats per token), which shapes what the critic looks at."""
    demonstrations: Fraction = 0.0
    """Share of every batch's turns that comes from the demonstrations."""
    polyak: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.1
    """Step of the target critic after every update: target += polyak · (critic - target)."""


@dataclass(frozen=True, config=_STRICT)
class CriticStartConfig(DemonstrationsConfig):
    """The critic's start: fitting the returns of the demonstrations. Without it the critic begins knowing nothing."""

    lr: Rate = 5e-3
    matrix_lr: MatrixRate = 5e-3


@dataclass(frozen=True, config=_STRICT)
class ActorConfig(OptimizerConfig):
    """The low level: which tokens to say."""

    method: Literal["reinforce", "ppo", "awr", "filtered"] = "reinforce"
    """`reinforce` (ArCHer's) and `ppo` learn from freshly sampled utterances, `awr` and `filtered` from played ones."""
    lr: Rate = 5e-4
    weight_decay: Weight = 0.0
    updates: Positive = 4
    """Batches per iteration."""
    epochs: Positive = 1
    """Gradient steps on each batch and its utterances; `ppo` only."""
    batch_turns: Positive = 192
    """Replayed states per gradient step, in whole games."""
    newest_turns: Positive = 2000
    """Replayed states come from the newest games that hold this many turns: near what the policy now meets."""
    accumulation: Positive = 1
    """Parts a batch is cut into to save memory; the gradient is the exact mean over all of it."""
    siblings: Positive = 4
    """Utterances sampled per state."""
    advantage: Literal["value", "siblings"] = "siblings"
    """Baseline of an utterance's Q: the critic's V (the paper) or the other siblings' mean. What was played has no
    siblings: `awr` and `filtered` take the critic's V."""
    clip_ratio: Rate = 0.2
    """`ppo` only: ε, how far the probability of a token may move before it no longer pays."""
    beta: Annotated[float, Field(gt=0, strict=True)] = 1.0
    """`awr` only: weight exp(β · advantage), per unit of return."""
    weight_cap: Annotated[float, Field(gt=1, strict=True)] = 20.0
    """`awr` only: largest weight."""
    threshold: Annotated[float, Field(strict=True)] = 0.0
    """`filtered` only: advantage above which an utterance is cloned, in units of return."""
    kl: Weight = 0.1
    """Weight of the KL divergence to the supervised start, in units of return per nat and utterance."""

    def __post_init__(self) -> None:
        if self.method in ("reinforce", "ppo") and self.advantage == "siblings" and self.siblings < 2:
            raise ValueError("advantage='siblings' compares siblings, so siblings must be at least 2")
        if self.epochs > 1 and self.method != "ppo":
            raise ValueError(
                f"epochs={self.epochs} takes several steps on the same utterances, which only method='ppo' allows for; "
                "raise updates instead"
            )


@dataclass(frozen=True, config=_STRICT)
class EvalConfig:
    """Evaluation on games that are never trained on."""

    every: Natural = 20
    """Iterations between evaluations; 0 evaluates at the end only."""
    games: Several = 256
    """Games of an evaluation while training; an interval needs two."""
    final_games: Several = 1000
    """Games of the evaluations of the supervised start and of the end."""


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """A whole run. The defaults are one vetted run of the 10-object game; anything else is an experiment."""

    preset: str = "archer"
    """The preset these settings started from; a record, not a switch."""
    env: EnvConfig = Field(default_factory=EnvConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    supervised: SupervisedConfig = Field(default_factory=SupervisedConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    critic_start: CriticStartConfig = Field(default_factory=CriticStartConfig)
    critic: CriticConfig = Field(default_factory=CriticConfig)
    actor: ActorConfig = Field(default_factory=ActorConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    iterations: Positive = 80
    """Iterations of play and learning."""
    warmup: Natural = 2
    """First iterations, in which only the critic learns, so that the first advantages are not noise."""
    replay_turns: Positive = 10_000
    """Turns that replay holds; the oldest games are forgotten beyond it."""
    seed: Natural = 0
    """Every random draw of the run derives from it."""
    device: str = "cpu"
    """Torch device of the learner and the players."""
    threads: Natural = 0
    """CPU threads of torch; 0 leaves torch's choice. A resumed run is exact only with the same number."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        if not self.supervised.games:
            for name, value in (
                ("critic_start.epochs", self.critic_start.epochs),
                ("critic.demonstrations", self.critic.demonstrations),
            ):
                if value:
                    raise ValueError(f"{name}={value} learns from demonstrations, but supervised.games is 0")
