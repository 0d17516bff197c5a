"""The settings of what learns: the starts, critic, actor and baseline, typed and documented."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from archer.config.kinds import STRICT, BelowOne, Fraction, Natural, Norm, Positive, Rate, Weight

CLONING = ("awr", "filtered", "cloning")
"""Low levels that raise the likelihood of what was said, and so may learn from whoever said it."""


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
    states: Literal["float32", "8-bit", "paged-8-bit"] = "float32"
    """What AdamW keeps its two running means of every weight in: `8-bit` through bitsandbytes, a quarter of the room;
    `paged-8-bit` in memory that moves between a GPU and its host as there is room."""


@dataclass(frozen=True, config=STRICT)
class EpochsConfig(OptimizerConfig):
    """Learning from the demonstrations, pass by pass; the learning rates warm up and decay."""

    epochs: Natural = 1
    """Passes over the demonstrations; 0 leaves them out."""
    batch_games: Positive = 16
    """Games per gradient step."""


@dataclass(frozen=True, config=STRICT)
class CloningConfig(EpochsConfig):
    """Cloning what was said in the demonstrations."""

    answer_weight: Weight = 1.0
    """Weight of predicting the environment's answers too; 0 clones utterances only."""


@dataclass(frozen=True, config=STRICT)
class SupervisedConfig(CloningConfig):
    """The supervised start: cloning the demonstrations."""

    lr: Rate = 0.01
    matrix_lr: BelowOne = 0.01
    batch_games: Positive = 8


@dataclass(frozen=True, config=STRICT)
class CriticConfig(OptimizerConfig):
    """The high level: what an utterance is worth."""

    method: Literal["td", "retrace", "sarsa", "iql", "mc", "gae", "tokens", "none"] = "retrace"
    """`td`: ArCHer's, V follows the policy. `retrace`: as well, and games are followed as far as the policy would have
    gone. `sarsa`: V of what was played. `iql`: an expectile of it. `mc`: returns. `gae`: λ-returns, PPO's. `tokens`:
    the same for V before every token. `none`: no critic."""
    lr: Rate = 3e-4
    matrix_lr: BelowOne = 5e-4
    updates: Positive = 60
    """Gradient steps per iteration."""
    batch_turns: Positive = 192
    """Turns per gradient step, in whole games."""
    accumulation: Positive = 1
    """Parts a batch is cut into to save memory; the gradient is the exact mean over all of it."""
    keep_values: Natural = 0
    """Iterations for which the target critic's values of a game are kept, with the utterances that it was asked about;
    0 asks anew at every step. Saves time with large models."""
    discount: Fraction = 0.99
    """γ between utterances, of advantages too. Tokens inside one utterance are never discounted."""
    trace: Fraction = 0.95
    """λ of the return that Q learns, and of GAE: 0 is one-step TD (the paper), 1 is Monte Carlo; `mc` always has 1."""
    expectile: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.9
    """`iql` only: expectile of Q over played utterances that V learns; 0.5 is their mean."""
    answer_weight: Weight = 1.0
    """Weight of predicting the environment's answers (nats per token), which shapes what the critic looks at. Without
    effect on an encoder critic (`model.critic=encoder`), which predicts none."""
    demonstrations: Fraction = 0.25
    """Share of every batch's turns that comes from the demonstrations, where there are some."""
    polyak: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.1
    """Step of the target critic after every update: target += polyak · (critic - target)."""


@dataclass(frozen=True, config=STRICT)
class CriticStartConfig(EpochsConfig):
    """The critic's start: learning from the demonstrations what can be made of a state (implicit Q-learning). Without
    it the critic begins knowing nothing. A critic of tokens (`critic.method=tokens`) fits their returns."""

    lr: Rate = 5e-3
    matrix_lr: BelowOne = 5e-3
    trace: Fraction = 0.2
    """λ of the return that Q learns: 0 is one step, 1 Monte Carlo, which few demonstrations ask for."""
    expectile: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.7
    """Expectile of Q over what was said that V learns; 0.5 is its mean, the worth of going on as the demonstrator."""


@dataclass(frozen=True, config=STRICT)
class ActorStartConfig(CloningConfig):
    """The actor's start, before the first game: cloning the demonstrations once more, what the critic's start finds
    good the more (advantage-weighted regression)."""

    lr: Rate = 5e-3
    matrix_lr: BelowOne = 5e-3
    critic_rounds: Natural = 4
    """How often the critic then takes `critic.updates` steps on the demonstrations, so that the values with which the
    first game is judged are this actor's (`td` and `retrace`, whose V follows the policy)."""


@dataclass(frozen=True, config=STRICT)
class ActorConfig(OptimizerConfig):
    """The low level: which tokens to say."""

    method: Literal["reinforce", "baseline", "ppo", "awr", "filtered", "cloning", "none"] = "awr"
    """`awr`, `filtered`: likelihood weighted by advantage. `reinforce`: ArCHer's. `baseline`: with a learned value of
    every token. `ppo`: clipped. `cloning`: plain likelihood. `none`: the actor stays as it is."""
    utterances: Literal["fresh", "played", "best"] = "played"
    """What it learns from: `fresh` samples at replayed states, what was `played`, or that of the `best` games."""
    advantage: Literal["value", "siblings", "gae", "token_gae", "group", "steps", "none"] = "value"
    """An utterance's Q minus the critic's V (`value`, the paper) or minus its siblings' mean Q (`siblings`, fresh ones
    only). Of played ones also: `gae`, `token_gae` from rewards and V; `group` (GRPO), `steps` (GiGPO) from the returns
    of games of one task seed. `none`: all count alike."""
    lr: Rate = 5e-4
    matrix_lr: BelowOne = 1e-3
    weight_decay: Weight = 0.0
    updates: Positive = 40
    """Batches per iteration."""
    epochs: Positive = 1
    """Gradient steps on each batch of fresh utterances; `ppo` only."""
    batch_turns: Positive = 384
    """Replayed states per gradient step, in whole games."""
    newest_turns: Positive = 6000
    """Replayed states come from the newest games that hold this many turns: near what the policy now meets."""
    best: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.1
    """`utterances=best` only: the fraction of replay, by return, that is learned from."""
    demonstrations: Fraction = 0.25
    """Share of every batch's turns that comes from the demonstrations, where there are some."""
    accumulation: Positive = 1
    """Parts a batch is cut into to save memory; the gradient is the exact mean over all of it."""
    siblings: Positive = 4
    """Utterances sampled per state, where the actor learns from fresh ones or is held near another by them (`kl`)."""
    clip_ratio: Rate = 0.2
    """`ppo` only: ε, how far the probability of a token may move before it no longer pays."""
    ratio_cap: Annotated[float, Field(ge=1, strict=True)] = 2.0
    """`reinforce`, `baseline`, `ppo` on utterances of another engine (`rollout.engine`): a token counts as much as the
    learner finds it likelier than the engine did, up to this."""
    beta: Annotated[float, Field(gt=0, strict=True)] = 25.0
    """`awr` only: weight exp(β · advantage), the advantage in the critic's unit: the spread of the demonstrations'
    returns, so that no task needs a β of its own. That unit is 1 for the encoder critic and for whitened advantages."""
    weight_cap: Annotated[float, Field(gt=1, strict=True)] = 20.0
    """`awr` only: largest weight."""
    threshold: Annotated[float, Field(strict=True)] = 0.0
    """`filtered` only: advantage above which an utterance is cloned, in units of return; in standard deviations where
    `advantage` is whitened."""
    average: Weight = 1.0
    """`awr`, `filtered` and `cloning` of what was played only: the policy that plays, is measured and is kept is a
    running mean of the actor's weights, which are this many iterations old on average; 0: the newest."""
    kl: Weight = 0.0
    """Weight of the KL divergence to the actor before the first game, in units of return per nat and utterance."""

    @property
    def averages(self) -> bool:
        """Whether a running mean of the actor's weights is the policy."""
        clones = self.method in CLONING and self.utterances != "fresh"
        return clones and self.average > 0  # others learn from what the newest weights say

    @property
    def average_rate(self) -> float:
        """Step of the running mean after each update: with 1 / (1 + n) its weights are n updates old on average."""
        return 1 / (1 + self.average * self.updates)

    @property
    def anchored(self) -> bool:
        """Whether the actor is held near its start, which is kept for that."""
        return self.kl > 0 and self.method != "none"

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
        if self.utterances == "best" and self.method not in CLONING:
            raise ValueError(
                f"method={self.method!r} would learn from a choice of games by their return; clone them instead"
            )


@dataclass(frozen=True, config=STRICT)
class BaselineConfig(OptimizerConfig):
    """The value of every token inside an utterance, which `actor.method=baseline` learns beside the actor."""

    matrix_lr: BelowOne = 2e-3
