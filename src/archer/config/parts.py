"""The settings of each part of a run, typed and documented."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")

# Strict, so that `true` is not taken for 1.
Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Several = Annotated[int, Field(ge=2, strict=True)]
Rate = Annotated[float, Field(gt=0, lt=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Weight = Annotated[float, Field(ge=0, strict=True)]
Norm = Annotated[float, Field(gt=0, strict=True)]


@dataclass(frozen=True, config=STRICT)
class EnvConfig:
    """The task."""

    name: str | None = "twenty-questions-10"
    """A name from `archer envs`, or `package.module:Name` of a class or factory of your own; none to learn from files
    alone: then nothing is played or measured."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment."""


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """The networks."""

    actor: str | None = None
    """Folder or hub name of any causal LM; none for the built-in tiny decoder."""
    critic: Literal["causal", "encoder"] = "causal"
    """`causal`: one pass of a decoder values a whole game. `encoder`: the paper's, state and utterance apart."""
    critic_model: str | None = None
    """Folder or hub name of the critic's network; none for a copy of the actor (causal) or a tiny encoder."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products, when learning and when playing; weights and losses stay float32."""
    checkpointing: bool = False
    """The learner computes the insides of each layer again on the way back instead of keeping them: less memory for a
    third more arithmetic."""
    compile: bool = False
    """The learner's decoders go through torch.compile: a minute at the start, then a tenth to a fifth faster."""
    tiny: TinyConfig = Field(default_factory=TinyConfig)
    """Size of the built-in models."""


@dataclass(frozen=True, config=STRICT)
class OptimizerConfig:
    """How a network follows its gradient."""

    lr: Rate = 1e-3
    """AdamW's learning rate, at its highest."""
    matrix_lr: BelowOne = 0.0
    """Muon's learning rate for hidden weight matrices; 0 leaves them to AdamW."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    clip: Norm = 1.0
    """Largest gradient norm."""


@dataclass(frozen=True, config=STRICT)
class DemonstrationsConfig:
    """Conversations to begin with: the task's scripted demonstrator plays them, or they come from files."""

    games: Natural | None = 12_000
    """Games that the demonstrator plays, or the most that are taken from the files; none takes all of these."""
    files: tuple[str, ...] = ()
    """Conversations in JSONL or Parquet, or episode shards of earlier runs, in place of the demonstrator."""
    skip_malformed: bool = False
    """Leave out conversations that cannot be read, and count them, instead of refusing the files."""

    def __post_init__(self) -> None:
        if self.games is None and not self.files:
            raise ValueError("games=null takes all conversations of files, and there are none; give a number")


@dataclass(frozen=True, config=STRICT)
class PassesConfig(OptimizerConfig):
    """Learning from the demonstrations, pass by pass; the learning rates warm up and decay."""

    epochs: Natural = 0
    """Passes over the demonstrations; 0 leaves them out."""
    batch_games: Positive = 16
    """Games per gradient step."""


@dataclass(frozen=True, config=STRICT)
class SupervisedConfig(PassesConfig):
    """The supervised start: cloning the demonstrations."""

    lr: Rate = 0.01
    matrix_lr: BelowOne = 0.01
    epochs: Natural = 1
    batch_games: Positive = 8
    answer_weight: Weight = 1.0
    """Weight of predicting the environment's answers too; 0 clones utterances only."""


@dataclass(frozen=True, config=STRICT)
class RolloutConfig:
    """Playing."""

    games: Natural = 192
    """Games per iteration; 0 plays none and learns from the demonstrations alone."""
    group: Positive = 1
    """Games of the same task seed: `games` of them are `games / group` tasks."""
    best_of: Natural = 0
    """The critic chooses what to say among this many samples, in every game and evaluation; 0 says the first."""
    parallel: Positive = 192
    """Games played at once."""
    utterance_tokens: Positive = 16
    """Longest utterance, stop token included."""
    temperature: Annotated[float, Field(gt=0, strict=True)] = 1.0
    """What logits are divided by when an utterance is drawn, in training and evaluation. What is learned is always the
    policy at temperature 1 without filters: far from that, an agent learns from what it would seldom say."""
    top_k: Natural = 0
    """Only so many of the most likely tokens are said; 0: all."""
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    """Only the most likely tokens that together have at least this probability are said."""
    min_p: BelowOne = 0.0
    """Only tokens of at least this share of the most likely one's probability are said."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an utterance, besides the end-of-sequence token; the environment hears what stands before them."""
    layout: Literal["plain", "transcript", "minutes"] = "transcript"
    """An answer as the agent gets it: `plain` as it is, `transcript` with what it answers, `minutes` the one, then the
    other, and marked where it was asked before."""
    workers: Natural = 0
    """Threads in which environments answer while other games are decoded; 0: in line, which is best where an answer
    takes less than a millisecond."""
    overlap: bool = False
    """The next games are played while the learner updates, by the policy as it was before: always one iteration behind,
    so that a run stays reproducible. Takes a second copy of the actor."""
    max_turns: Positive = 50
    """Turns after which a game is truncated if its environment has not ended it."""
    max_tokens: Annotated[int, Field(ge=16, strict=True)] = 512
    """Longest conversation."""


@dataclass(frozen=True, config=STRICT)
class CriticConfig(OptimizerConfig):
    """The high level: what an utterance is worth."""

    method: Literal["td", "sarsa", "iql", "mc", "gae", "tokens", "none"] = "td"
    """`td`: ArCHer's, V follows the policy. `sarsa`: V of what was played. `iql`: an expectile of it. `mc`: returns.
    `gae`: λ-returns, PPO's. `tokens`: the same for V before every token. `none`: no critic."""
    matrix_lr: BelowOne = 2e-3
    updates: Positive = 40
    """Gradient steps per iteration."""
    batch_turns: Positive = 96
    """Turns per gradient step, in whole games."""
    accumulation: Positive = 1
    """Parts a batch is cut into to save memory; the gradient is the exact mean over all of it."""
    keep_values: Natural = 0
    """Iterations for which the target critic's values of a game are kept, with the utterances that it was asked about;
    0 asks anew at every step. Saves time with large models."""
    discount: Fraction = 0.9
    """γ between utterances, of advantages too. Tokens inside one utterance are never discounted."""
    trace: Fraction = 0.9
    """λ of the return that Q learns, and of GAE: 0 is one-step TD (the paper), 1 is Monte Carlo; `mc` always has 1."""
    expectile: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.9
    """`iql` only: expectile of Q over played utterances that V learns; 0.5 is their mean."""
    answer_weight: Weight = 1.0
    """Weight of predicting the environment's answers (nats per token), which shapes what the critic looks at."""
    demonstrations: Fraction = 0.0
    """Share of every batch's turns that comes from the demonstrations."""
    polyak: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.1
    """Step of the target critic after every update: target += polyak · (critic - target)."""


@dataclass(frozen=True, config=STRICT)
class CriticStartConfig(PassesConfig):
    """The critic's start: fitting the returns of the demonstrations. Without it the critic begins knowing nothing."""

    lr: Rate = 5e-3
    matrix_lr: BelowOne = 5e-3


@dataclass(frozen=True, config=STRICT)
class ActorConfig(OptimizerConfig):
    """The low level: which tokens to say."""

    method: Literal["reinforce", "baseline", "ppo", "awr", "filtered", "cloning", "none"] = "reinforce"
    """`reinforce`: ArCHer's. `baseline`: with a learned value of every token. `ppo`: clipped. `awr`, `filtered`:
    likelihood weighted by advantage. `cloning`: plain likelihood. `none`: the actor stays as it is."""
    utterances: Literal["fresh", "played", "best"] = "fresh"
    """What it learns from: `fresh` samples at replayed states, what was `played`, or that of the `best` games."""
    advantage: Literal["value", "siblings", "gae", "token_gae", "group", "steps", "none"] = "siblings"
    """An utterance's Q minus the critic's V (`value`, the paper) or minus its siblings' mean Q (`siblings`, fresh ones
    only). Of played ones also: `gae`, `token_gae` from rewards and V; `group` (GRPO), `steps` (GiGPO) from the returns
    of games of one task seed. `none`: all count alike."""
    lr: Rate = 5e-4
    weight_decay: Weight = 0.0
    updates: Positive = 4
    """Batches per iteration."""
    epochs: Positive = 1
    """Gradient steps on each batch of fresh utterances; `ppo` only."""
    batch_turns: Positive = 192
    """Replayed states per gradient step, in whole games."""
    newest_turns: Positive = 2000
    """Replayed states come from the newest games that hold this many turns: near what the policy now meets."""
    best: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.1
    """`utterances=best` only: the fraction of replay, by return, that is learned from."""
    demonstrations: Fraction = 0.0
    """Share of every batch's turns that comes from the demonstrations."""
    accumulation: Positive = 1
    """Parts a batch is cut into to save memory; the gradient is the exact mean over all of it."""
    siblings: Positive = 4
    """Utterances sampled per state."""
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
        if self.method == "none":
            return
        if (self.method == "cloning") != (self.advantage == "none"):
            raise ValueError(
                "method='cloning' and advantage='none' go together: each says that all utterances count alike"
            )
        fresh = self.utterances == "fresh"
        if fresh and self.advantage not in ("value", "siblings"):
            raise ValueError(f"advantage={self.advantage!r} is of utterances that were played: set utterances='played'")
        if not fresh and self.advantage == "siblings":
            raise ValueError(
                "advantage='siblings' compares fresh samples; what was played has none: set advantage='value'"
            )
        if self.advantage == "siblings" and self.siblings < 2:
            raise ValueError("advantage='siblings' compares siblings, so siblings must be at least 2")
        if self.epochs > 1 and not (self.method == "ppo" and fresh):
            raise ValueError(
                f"epochs={self.epochs} takes several steps on the same fresh utterances, which only method='ppo' "
                "allows for; raise updates instead"
            )
        if self.utterances == "best" and self.method not in ("cloning", "awr", "filtered"):
            raise ValueError(
                f"method={self.method!r} would learn from a choice of games by their return; clone them instead"
            )


@dataclass(frozen=True, config=STRICT)
class BaselineConfig(OptimizerConfig):
    """The value of every token inside an utterance, which `actor.method=baseline` learns beside the actor."""

    matrix_lr: BelowOne = 2e-3


@dataclass(frozen=True, config=STRICT)
class EvalConfig:
    """Evaluation on games that are never trained on."""

    every: Natural = 20
    """Iterations between evaluations; 0 evaluates at the end only."""
    games: Several = 256
    """Games of an evaluation while training; an interval needs two."""
    final_games: Several = 1000
    """Games of the evaluations of the supervised start and of the end."""
