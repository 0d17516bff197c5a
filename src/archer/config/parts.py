"""The settings of each part of a run but its learners, typed and documented."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from archer.config.engines import EngineName, ServerConfig
from archer.config.kinds import STRICT, BelowOne, Fraction, Natural, Positive, Several, Weight


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

    layers: Positive = 2
    """Decoder blocks. One cannot look up whether an utterance was said before."""
    width: Positive = 128
    """Hidden size; a multiple of twice `heads`."""
    heads: Positive = 4
    """Attention heads."""
    vocabulary: Annotated[int, Field(ge=300, strict=True)] = 2048
    """Most entries of the tokenizer that is trained on the demonstrations."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width={self.width} is not a multiple of 2 · heads={self.heads}: each head turns pairs of numbers; "
                f"set width to {2 * self.heads * max(1, round(self.width / (2 * self.heads)))}, or other heads"
            )


@dataclass(frozen=True, config=STRICT)
class LoraConfig:
    """Adapters in place of training all weights of `model.actor`: actor, critic and their copies are adapters on one
    frozen model, which is kept in `model.precision`."""

    rank: Natural = 0
    """Rank of every adapted matrix's change; 0 trains all weights."""
    alpha: Annotated[float, Field(gt=0, strict=True)] = 32.0
    """The change is multiplied by `alpha / rank`."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the layers to adapt, `q_proj v_proj` for instance; `all-linear` for all but the output layer."""
    dora: bool = False
    """Length and direction of the matrices' columns apart (DoRA)."""


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
    attention: str | None = None
    """How the networks attend when they learn: `sdpa`, torch's fused kernels, or `eager`, written out and slower; none
    for what the architecture is loaded with. Playing has kernels of its own."""
    compile: bool = False
    """The learner's networks go through torch.compile: a minute at the start, then a tenth to a fifth faster."""
    sharding: Literal["none", "full"] = "none"
    """In several processes: `none` has every network whole in each, `full` cuts weights, gradients and optimizer states
    into one shard for each; of adapters, the frozen model beneath them. Same results, less memory, more to send."""
    lora: LoraConfig = Field(default_factory=LoraConfig)
    tiny: TinyConfig = Field(default_factory=TinyConfig)
    """Size of the built-in models."""

    def __post_init__(self) -> None:
        if self.attention not in (None, "sdpa", "eager"):
            raise ValueError(
                f"attention={self.attention!r} is not sdpa or eager: a row of a batch holds several conversations and "
                "the branches of their siblings, which takes a mask of any form. Kernels like flash_attention_2 have "
                "none, and flex_attention has no way back on a processor and was never tried on anything else"
            )


@dataclass(frozen=True, config=STRICT)
class DemonstrationsConfig:
    """Conversations to begin with: the task's scripted demonstrator plays them, or they come from files."""

    games: Natural | None = 12_000
    """Games that the demonstrator plays, or the most that are taken from the files; none takes all of these. A run that
    goes on from another one has all of that one's."""
    files: tuple[str, ...] = ()
    """Conversations in JSONL or Parquet, or episode shards of earlier runs, in place of the demonstrator."""
    skip_malformed: bool = False
    """Leave out conversations that cannot be read, and count them, instead of refusing the files."""

    def __post_init__(self) -> None:
        if self.games is None and not self.files:
            raise ValueError("games=null takes all conversations of files, and there are none; give a number")


@dataclass(frozen=True, config=STRICT)
class RolloutConfig:
    """Playing."""

    games: Natural = 48
    """Games per iteration; 0 plays none and learns from the demonstrations alone. The fewer, the more is learned from
    each, until it is learned by heart: more where no game is like another."""
    group: Positive = 1
    """Games of the same task seed: `games` of them are `games / group` tasks."""
    best_of: Natural = 10
    """In games played to learn from, the critic chooses what to say among this many samples; 0 says the first."""
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
    layout: Literal["plain", "transcript", "minutes", "chat"] = "minutes"
    """An answer as the agent gets it: `plain` as it is, `transcript` with what it answers, `minutes` the one, then the
    other, and marked where it was asked before; `chat` by the model's own chat template."""
    system: str = ""
    """What stands before the first observation: the system message of a chat, a first line otherwise."""
    history: Literal["append", "replace", "window"] = "append"
    """What the agent reads: `append` all observations, each being what is new; `replace` the newest alone, which tells
    everything; `window` all, but when `max_tokens` is reached the oldest turns go and the first observation stays."""
    workers: Natural = 0
    """Threads in which environments answer while other games are decoded; 0: in line, which is best where an answer
    takes less than a millisecond. Coroutines need none: all of them answer at once."""
    processes: bool = False
    """The workers are processes: what hangs, leaks or crashes in them does the run no harm."""
    step_timeout: Weight = 0.0
    """Seconds after which an environment's answer is given up; 0 waits for ever."""
    retries: Natural = 1
    """How often a call that failed is tried again, on a fresh copy that has been told the same."""
    max_failures: Fraction = 0.1
    """Share of an iteration's (or evaluation's) games that may fail for good. They are kept up to their last finished
    turn, as truncated; beyond it the run stops and says what happened."""
    overlap: bool = False
    """The next games are played while the learner updates, by the policy as it was before: always one iteration behind,
    so that a run stays reproducible. Takes a second copy of the actor."""
    max_turns: Positive = 50
    """Turns after which a game is truncated if its environment has not ended it."""
    max_tokens: Annotated[int, Field(ge=16, strict=True)] = 512
    """Longest conversation."""
    engine: EngineName = "built-in"
    """What says the utterances of games: `built-in`, here; `vllm`, in this process; `server`, over HTTP."""
    server: ServerConfig = Field(default_factory=ServerConfig)
    """`server` only: which."""
    vllm: dict[str, Any] = Field(default_factory=dict)
    """`vllm` only: keyword arguments of `vllm.LLM`, `gpu_memory_utilization` (0.4, as the learner needs the rest) or
    `tensor_parallel_size` for instance."""

    def __post_init__(self) -> None:
        if self.utterance_tokens >= self.max_tokens:
            raise ValueError(
                f"utterance_tokens={self.utterance_tokens} leaves no room for what is heard in a conversation of "
                f"max_tokens={self.max_tokens}; raise that, or shorten the utterances"
            )


@dataclass(frozen=True, config=STRICT)
class EvalConfig:
    """Evaluation on games that are never trained on."""

    best_of: Natural = 0
    """The critic chooses what to say among this many samples in the run's evaluations too, and wherever else the agent
    is used; 0 measures the policy alone."""
    every: Natural = 5
    """Iterations between evaluations; 0 evaluates at the end only."""
    games: Several = 256
    """Games of an evaluation while training; an interval needs two."""
    final_games: Several = 1000
    """Games of the evaluations of the supervised start and of the end."""

    @property
    def played_by(self) -> str:
        """Whose returns a run's evaluations are, in words."""
        return f"the critic's choice among {self.best_of}" if self.best_of else "the policy alone"


@dataclass(frozen=True, config=STRICT)
class ClusterConfig:
    """Playing on the machines of a Ray cluster (`archer train --cluster`), while the learner learns."""

    chunk: Natural = 0
    """Most games that a player is handed at once; 0: the run plays where it learns. An iteration's games are handed out
    in equal chunks of whole groups, as large as this allows."""
    lag: Natural = 1
    """Most iterations that the weights which played a game may be behind those that learn from it. 0: players and
    learner take turns, and a run is the same as without a cluster."""
    overdue: Weight = 900.0
    """Seconds after which what a player was handed is handed to another too; what comes in first counts. 0: only what a
    player had that died."""
    gpus: Weight = 0.0
    """GPUs of each player, a part of one for instance; where `device` is cuda."""

    def __post_init__(self) -> None:
        if self.chunk == 0 and (self.lag, self.overdue, self.gpus) != (1, 900.0, 0.0):
            raise ValueError(
                "settings of playing on a cluster say nothing in a run that is on none; start it with --cluster ADDRESS"
            )

    def share(self, games: int, group: int) -> int:
        """Games of a chunk: the largest equal share of ``games`` in whole groups that is not above ``chunk``."""
        shares = [size for size in range(group, games + 1, group) if games % size == 0]
        return max((size for size in shares if size <= self.chunk), default=group)
