"""What processes that learn together are compared in: one step of everything that learns, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from archer import devices
from archer.algorithms.actor import update_actor
from archer.algorithms.critic import start_critic, update_critic
from archer.algorithms.supervised import clone, start_actor
from archer.algorithms.target_values import KeptValues
from archer.beginning import load_pretrained
from archer.config import ActorConfig, ActorStartConfig, CriticConfig, CriticStartConfig, ModelConfig, SupervisedConfig
from archer.config.parts import LoraConfig
from archer.devices.sharding import copy_of, full
from archer.models.actor import Actor
from archer.models.agent import Agent, make_optimizer
from archer.models.critic import CausalCritic
from archer.models.passes import Passes
from archer.models.placing import cut
from archer.models.tiny import build_tiny_actor
from archer.models.token_baseline import TokenBaseline
from archer.replay import Replay
from archer.rollout.play import Limits, play
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from tests.worlds import Echo

SAMPLING = Sampling(max_tokens=6)
RATES: dict[str, Any] = {"lr": 1e-4, "matrix_lr": 0.0}
PARTS: dict[str, Any] = {"accumulation": 2, "batch_turns": 16, "updates": 2}
PASSES: dict[str, Any] = {**RATES, "batch_games": 6}
FRESH: dict[str, Any] = {"utterances": "fresh", "advantage": "siblings", "siblings": 2}
ACTORS = {
    "awr": ActorConfig(method="awr", kl=0.1, **PARTS),
    "muon": ActorConfig(method="cloning", advantage="none", **PARTS),
    "ppo": ActorConfig(method="ppo", epochs=2, **FRESH, **PARTS),
    "reinforce": ActorConfig(method="reinforce", **FRESH, **PARTS),
    "baseline": ActorConfig(method="baseline", **FRESH, **PARTS),
}
CRITICS = {
    "td": CriticConfig(method="td", **PARTS),
    "retrace": CriticConfig(method="retrace", **PARTS),
    "tokens": CriticConfig(method="tokens", **PARTS),
    "kept": CriticConfig(method="retrace", keep_values=2, **PARTS),
}


def tiny() -> Actor:
    """An untrained two-layer decoder that knows the words of ``Echo``."""
    texts = ["Say a word.\n", "You said a word.\n", "red", "green", "blue", "yellow"] * 3
    return build_tiny_actor(texts, layers=2, width=32, heads=2, context=160, vocabulary=300, seed=3)


def untied() -> Actor:
    """The same with an output layer of its own."""
    actor = tiny()
    actor.model.config.tie_word_embeddings = False
    torch.manual_seed(2)
    actor.model.lm_head.weight = nn.Parameter(0.05 * torch.randn(actor.vocabulary, 32))
    return actor


def adapted(base: Path) -> Actor:
    """Adapters on the model in ``base``, which are not as they begin: then half of their gradients would be 0."""
    torch.manual_seed(1)
    actor = load_pretrained(ModelConfig(actor=str(base), lora=LoraConfig(rank=4)), base, "cpu")
    with torch.no_grad():
        for weight in actor.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return actor


def learn(case: str, actor: Actor, *, sharded: bool) -> dict[str, Tensor]:
    """A step or two of the case: every metric, and the gradients and weights of all networks."""
    found: dict[str, Tensor] = {}
    games = play(
        copy_of(actor), Echo, list(range(11)), task="echo", sampling=SAMPLING,
        limits=Limits(max_tokens=160, parallel=4),
    )  # fmt: skip
    place: Callable[[nn.Module], None] = cut if sharded else lambda network: None
    if case == "recomputed":
        actor.passes = Passes(checkpointing=True)
    place(actor)
    torch.manual_seed(0)
    critic = CausalCritic.from_actor(actor)
    critic.set_units(1.0, 2.0)
    target, reference = critic.target(), copy_of(actor).requires_grad_(False)
    for copy in (critic, target, reference):
        place(copy)
    rates = {"lr": 1e-3, "matrix_lr": 1e-3} if case == "muon" else RATES
    agent = Agent(actor, make_optimizer(actor, ActorConfig(**rates)), critic, target)
    agent.critic_optimizer = make_optimizer(critic, CriticConfig(**rates))
    if case == "baseline":
        agent.baseline = TokenBaseline.from_actor(actor)
        place(agent.baseline)
        agent.baseline_optimizer = make_optimizer(agent.baseline, ActorConfig(**rates))
    if case == "averaged":
        agent.mean = copy_of(actor).requires_grad_(False)
        place(agent.mean)
    sampler = SiblingSampler(agent.policy, SAMPLING)
    replay = Replay(0)
    replay.add(games)

    def report(metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            found[f"{len(found)}.{name}"] = torch.tensor(value, dtype=torch.float64)

    if case in ("clone", "recomputed"):
        clone(actor, games, SupervisedConfig(**PASSES), seed=[1], report=report)
    elif case == "starts":
        start_critic(agent, games, CriticStartConfig(**PASSES), CriticConfig(), seed=[2], report=report)
        start_actor(agent, games, ActorStartConfig(**PASSES), ActorConfig(), seed=[3], report=report)
    elif case in CRITICS:
        kept = KeptValues(2) if case == "kept" else None
        report(update_critic(agent, replay, CRITICS[case], sampler=sampler, seed=[4], kept=kept))
    else:
        config = ActorConfig(method="awr", average=1.0, **PARTS) if case == "averaged" else ACTORS[case]
        anchor = reference if config.kl else None
        report(update_actor(agent, anchor, replay, config, sampler=sampler, seed=[5]))
    networks: dict[str, nn.Module | None] = {
        "actor": actor,
        "critic": critic,
        "target": target,
        "baseline": agent.baseline,
        "mean": agent.mean,
    }
    for name, network in networks.items():
        for key, weight in network.named_parameters() if network is not None else ():
            found[f"{name}.{key}"] = full(weight).clone()
            if weight.grad is not None:
                found[f"{name}.{key}.grad"] = full(weight.grad).clone()
    return found


def made(kind: str, base: Path) -> Actor:
    """An actor of a kind: ``full``, ``untied``, or ``lora`` on the model in ``base``."""
    kinds: dict[str, Callable[[], Actor]] = {"full": tiny, "untied": untied, "lora": lambda: adapted(base)}
    return kinds[kind]()


def learn_all(base: Path, out: Path, scenes: list[str]) -> None:
    """Every scene, CASE.KIND.PLACING, in as many processes as there are; what was found goes to a file each."""
    with devices.joined("cpu"):
        for scene in scenes:
            case, kind, placing = scene.split(".")
            found = learn(case, made(kind, base), sharded=placing == "sharded")
            if devices.first():
                save_file({key: value.contiguous() for key, value in found.items()}, out / f"{scene}.safetensors")
