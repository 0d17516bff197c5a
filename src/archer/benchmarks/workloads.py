"""The work that is timed: games of a fixed shape with models whose weights are random."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from archer.config import ActorConfig, CriticConfig
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import CausalCritic
from archer.models.passes import Passes
from archer.models.tiny import train_tokenizer
from archer.replay import Replay
from archer.rollout.play import Limits, play
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode

OBSERVATION = "abcdefghij"
"""Ten tokens of a tokenizer that has learned nothing."""
UTTERANCE_TOKENS = 10


@dataclass(frozen=True)
class Shape:
    """A model and the games it plays."""

    name: str
    kind: str
    """Architecture, as transformers calls it."""
    sizes: Mapping[str, int]
    games: int
    turns: int = 20

    @property
    def tokens(self) -> int:
        """Longest conversation."""
        return (self.turns + 1) * (len(OBSERVATION) + 1 + UTTERANCE_TOKENS)


TINY = Shape(
    "built-in tiny model, 2 × 128",
    "llama",
    {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 1024, "max_position_embeddings": 8192,
    },
    games=64,
)  # fmt: skip
GPT2 = Shape("GPT-2, 12 × 768", "gpt2", {"vocab_size": 50257, "n_positions": 1024}, games=16)


class Talk:
    """Answers the same ten letters ``turns`` times, at once."""

    def __init__(self, turns: int = 20) -> None:
        self.turns = turns

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[str, dict[str, object]]:
        self.turn = 0
        return OBSERVATION, {}

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        self.turn += 1
        return OBSERVATION, -1.0, self.turn == self.turns, False, {}


def build_actor(shape: Shape, dtype: torch.dtype = torch.float32) -> Actor:
    """A model of this shape with random weights."""
    tokenizer = train_tokenizer([], 300)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(shape.kind, **special, **shape.sizes, tie_word_embeddings=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return Actor(model, tokenizer, Passes(dtype))


def build_agent(actor: Actor) -> Agent:
    """``actor`` with a critic that begins as its copy."""
    critic = CausalCritic.from_actor(actor)
    return Agent(
        actor=actor,
        actor_optimizer=make_optimizer(actor, ACTOR),
        critic=critic,
        target_critic=critic.target(),
        critic_optimizer=make_optimizer(critic, CRITIC),
    )


CRITIC = CriticConfig(
    method="td", matrix_lr=0.0, trace=0.0, answer_weight=0.0, lr=2e-5, discount=0.95, demonstrations=0.0
)
ACTOR = ActorConfig(
    method="reinforce", utterances="fresh", newest_turns=1_000_000, siblings=1, advantage="value", matrix_lr=0.0,
    lr=1e-5, kl=0.0, demonstrations=0.0, average=0.0,
)  # fmt: skip
"""The published losses: one-step TD, one fresh utterance per state."""


def sampling() -> Sampling:
    """Utterances of ten tokens: random weights hardly ever stop by themselves."""
    return Sampling(max_tokens=UTTERANCE_TOKENS)


def play_games(actor: Actor, shape: Shape, games: int | None = None) -> list[Episode]:
    """``games`` games of this shape, its own number if not told."""
    seeds = list(range(games or shape.games))
    return play(
        actor, lambda: Talk(shape.turns), seeds, task="talk", sampling=sampling(),
        limits=Limits(shape.turns, shape.tokens, len(seeds)),
    )  # fmt: skip


def said_tokens(episodes: list[Episode]) -> int:
    """Tokens that the agent said."""
    return sum(episode.tokens_said for episode in episodes)


@dataclass
class Learning:
    """An agent, games to learn from, and what draws its siblings."""

    agent: Agent
    episodes: list[Episode]
    replay: Replay
    sampler: SiblingSampler
    batch: int
    """Turns of a step, at least: it takes whole games."""

    @property
    def turns(self) -> int:
        """Turns that a step really has."""
        per_game = len(self.episodes[0])
        return -(-self.batch // per_game) * per_game

    @classmethod
    def of(cls, actor: Actor, episodes: list[Episode], batch: int) -> Learning:
        """Everything but the games fresh."""
        own = deepcopy(actor)
        replay = Replay(sum(map(len, episodes)))
        replay.add(episodes)
        return cls(build_agent(own), episodes, replay, SiblingSampler(own, sampling()), batch)
