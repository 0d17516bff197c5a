"""Presets: named combinations of settings, recommended or published; one page each in docs/algorithms/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from archer.envs import ADAPTERS, ENVS

Settings = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """A combination of settings; ``settings(env)`` is what differs from the defaults for a task, None for no task."""

    description: str
    settings: Callable[[str | None], Settings]


def _archer(env: str | None) -> Settings:
    """The defaults, and more games where there is more to learn: of 157 objects, few games show few."""
    return _with(_start(env), rollout={"games": 192}, iterations=80) if env == "twenty-questions" else _start(env)


def _start(env: str | None) -> Settings:
    """The built-in model and its supervised start, the same for all methods on a task."""
    known = ENVS | ADAPTERS
    return deepcopy(dict(known[env].settings)) if env in known else {}


def _plain(env: str | None) -> Settings:
    """Nothing of what ``archer`` adds to the start: the policy plays as it is, and what the demonstrations returned is
    not used."""
    return _with(
        _start(env),
        rollout={"games": 192, "best_of": 0},
        critic_start={"epochs": 0},
        actor_start={"epochs": 0},
        critic={"method": "td", "demonstrations": 0.0},
        actor={"demonstrations": 0.0, "matrix_lr": 0.0, "average": 0.0},
        iterations=40,
    )


def _reinforce(env: str | None) -> Settings:
    """The paper's low level on our critic, REINFORCE on utterances resampled at replayed states."""
    base = _with(
        _plain(env),
        rollout={"games": 48},
        critic={"updates": 40, "batch_turns": 96, "lr": 1e-3, "matrix_lr": 2e-3, "discount": 0.9, "trace": 0.9},
        actor={
            "method": "reinforce", "utterances": "fresh", "advantage": "siblings", "lr": 5e-4,
            "updates": 4, "batch_turns": 192, "newest_turns": 2000, "kl": 0.1,
        },
        replay_turns=10_000,
        warmup=2,
        iterations=160,
    )  # fmt: skip
    if env == "twenty-questions":  # many more objects to know: larger batches, a critic that begins with demonstrations
        return _with(
            base,
            rollout={"games": 192},
            critic_start={"epochs": 1},
            critic={"batch_turns": 192, "lr": 3e-4, "matrix_lr": 5e-4, "discount": 0.95, "demonstrations": 0.5},
            actor={"updates": 8, "batch_turns": 384, "newest_turns": 3500, "lr": 2e-4, "kl": 0.15},
            replay_turns=15_000,
            iterations=40,
        )
    return base


def _with(base: Settings, **changes: Any) -> Settings:
    """``base`` with further settings, part by part."""
    merged = deepcopy(base)
    for name, value in changes.items():
        merged[name] = merged.get(name, {}) | value if isinstance(value, Mapping) else value
    return merged


def _archer_paper(env: str | None) -> Settings:
    """Zhou et al. 2024, appendix table of hyper-parameters and released configuration.

    γ is .95 and the warm-up 20 iterations on Twenty Questions, 10 on its ten-object subset.
    """
    full = env == "twenty-questions"
    published = {
        "model": {"actor": "gpt2", "critic": "encoder", "critic_model": "roberta-base"},
        "supervised": {"batch_games": 32, "lr": 1e-4, "matrix_lr": 0.0, "epochs": 4, "answer_weight": 0.0},
        "rollout": {"games": 128, "layout": "plain", "utterance_tokens": 32, "max_tokens": 1024},
        "critic": {
            "updates": 50,
            "batch_turns": 256,
            "lr": 2e-5,
            "matrix_lr": 0.0,
            "weight_decay": 0.01,
            "discount": 0.95,
            "trace": 0.0,
            "answer_weight": 0.0,
            "polyak": 0.1,
        },
        "actor": {
            "method": "reinforce",
            "utterances": "fresh",
            "updates": 3,
            "batch_turns": 256,
            "accumulation": 32,
            "newest_turns": 100_000,
            "siblings": 1,
            "advantage": "value",
            "lr": 1e-6 if full else 1e-5,
            "weight_decay": 0.01,
            "kl": 0.0,
        },
        "eval": {"every": 25, "games": 1000},
        "replay_turns": 100_000,
        "warmup": 20 if full else 10,
        "iterations": 600,
    }
    return _with(_plain(None), **published)


def _archer_baseline(env: str | None) -> Settings:
    """The paper's variant with a token-level baseline; the rest as in ``archer-reinforce``."""
    return _with(_reinforce(env), actor={"method": "baseline"})


def _archer_mc(env: str | None) -> Settings:
    """The paper's ablation with a Monte-Carlo critic; the rest as in ``archer-reinforce``."""
    return _with(_reinforce(env), critic={"method": "mc"}, critic_start={"trace": 1.0, "expectile": 0.5})


def _chai(env: str | None) -> Settings:
    """Verma et al. 2022, online: a frozen actor; a critic, begun with the demonstrations, chooses among 5 samples."""
    return _with(
        _reinforce(env),
        critic_start={"epochs": 1},
        actor={"method": "none"},
        rollout={"games": 96, "best_of": 5},
        eval={"best_of": 5},
        warmup=0,
        iterations=80,
    )


def _on_policy(env: str | None) -> Settings:
    """What methods without replay share: they learn from the newest games, PPO's clip, then forget them."""
    return _with(
        _plain(env),
        rollout={"games": 96},
        critic={"lr": 1e-3, "matrix_lr": 2e-3},
        actor={
            "method": "ppo", "utterances": "played", "updates": 16, "batch_turns": 512, "newest_turns": 1_000_000,
            "lr": 2e-4, "kl": 0.02,
        },
        replay_turns=0,
        warmup=2,
        iterations=80,
    )  # fmt: skip


def _ppo(env: str | None) -> Settings:
    return _with(
        _on_policy(env),
        critic={"method": "tokens", "updates": 40, "batch_turns": 192, "discount": 0.95, "trace": 0.95},
        actor={"advantage": "token_gae"},
    )


def _turn_ppo(env: str | None) -> Settings:
    """Turn-PPO (arXiv 2512.17008): γ = .99, λ = .9, the critic's learning rate above the actor's."""
    return _with(
        _on_policy(env),
        critic={"method": "gae", "updates": 40, "batch_turns": 192, "discount": 0.99, "trace": 0.9},
        actor={"advantage": "gae"},
    )


def _grpo(env: str | None) -> Settings:
    """Shao et al. 2024: 8 games of a task, advantages relative to their mean and deviation."""
    return _with(
        _on_policy(env),
        critic={"method": "none"},
        actor={"advantage": "group", "lr": 1e-4, "updates": 6},
        rollout={"group": 8},
        warmup=0,
    )


def _gigpo(env: str | None) -> Settings:
    """Feng et al. 2025: GRPO's credit and that of steps at equal states, γ = .95, ω = 1, 8 games of a task."""
    return _with(_grpo(env), critic={"discount": 0.95}, actor={"advantage": "steps", "lr": 2e-4})


def _filtered_bc(env: str | None) -> Settings:
    """The paper's online baseline: imitate the best tenth of all games so far."""
    return _with(
        _plain(env),
        rollout={"games": 96},
        critic={"method": "none"},
        actor={
            "method": "cloning", "utterances": "best", "advantage": "none", "best": 0.1,
            "updates": 2, "batch_turns": 384, "lr": 1e-4,
        },
        replay_turns=1_000_000,
        iterations=80,
    )  # fmt: skip


def _bc(env: str | None) -> Settings:
    """The supervised start and nothing else."""
    return _with(
        _plain(env),
        critic={"method": "none"},
        actor={"method": "none"},
        rollout={"games": 0},
        iterations=0,
    )


def _offline(env: str | None) -> Settings:
    """What methods that learn from files share: nothing is played, all batches are of the demonstrations."""
    return _with(
        _plain(env),
        rollout={"games": 0},
        critic={"demonstrations": 1.0, "trace": 0.0, "updates": 40, "discount": 0.95},
        actor={"demonstrations": 1.0, "updates": 16, "lr": 2e-4},
        warmup=10,
        eval={"every": 10},
    )


def _archer_offline(env: str | None) -> Settings:
    """Zhou et al. 2024, offline: IQL and AWR; theirs are τ = .9 and β = 1, which is too weak a pull here."""
    return _with(
        _offline(env),
        critic={"method": "iql", "expectile": 0.7},
        actor={"method": "awr", "utterances": "played", "advantage": "value"},
    )


def _sarsa_awr(env: str | None) -> Settings:
    """The paper's ablation: values of what was played, the expectile being .5."""
    return _with(_archer_offline(env), critic={"method": "sarsa"})


def _iql_reinforce_bc(env: str | None) -> Settings:
    """The paper's ablation: IQL's critic, REINFORCE on fresh utterances, held near the cloned policy."""
    return _with(
        _offline(env),
        critic={"method": "iql", "expectile": 0.9},
        actor={"method": "reinforce", "utterances": "fresh", "advantage": "siblings", "siblings": 4, "kl": 1.0},
    )


def _filtered_bc_offline(env: str | None) -> Settings:
    """The paper's offline baseline: clone the best tenth of the data."""
    return _with(
        _offline(env),
        critic={"method": "none", "demonstrations": 0.0},
        actor={"method": "cloning", "utterances": "best", "advantage": "none", "best": 0.1},
        warmup=0,
    )


PRESETS: dict[str, Preset] = {
    "archer": Preset(
        "Our default: both levels begin offline, the critic chooses what is played, the actor clones the good of it.",
        _archer,
    ),
    "archer-reinforce": Preset(
        "The paper's REINFORCE on resampled utterances, with our causal critic, λ-returns, sibling baseline, KL.",
        _reinforce,
    ),
    "archer-paper": Preset(
        "Online ArCHer as published: GPT-2, RoBERTa critic, one-step TD, one sample per state (Zhou et al. 2024).",
        _archer_paper,
    ),
    "archer-baseline": Preset(
        "archer-reinforce with a learned value of every token as REINFORCE's baseline.", _archer_baseline
    ),
    "archer-mc": Preset("archer-reinforce with a Monte-Carlo critic.", _archer_mc),
    "chai": Preset("A frozen actor; ArCHer's critic chooses among 5 samples (Verma et al. 2022).", _chai),
    "filtered-bc": Preset("Online: imitate the best tenth of all games so far.", _filtered_bc),
    "ppo": Preset("Token-level PPO with value head and GAE (Schulman et al. 2017): the paper's baseline.", _ppo),
    "turn-ppo": Preset("PPO with one value and one advantage per turn (arXiv 2512.17008).", _turn_ppo),
    "grpo": Preset("No critic: a game against 7 others of the same task seed (Shao et al. 2024).", _grpo),
    "gigpo": Preset("GRPO, and turns against others at the same state (Feng et al. 2025).", _gigpo),
    "archer-offline": Preset(
        "From files alone: IQL and advantage-weighted regression (Zhou et al. 2024).", _archer_offline
    ),
    "sarsa-awr": Preset("From files alone: values of what was played, advantage-weighted regression.", _sarsa_awr),
    "iql-reinforce-bc": Preset("From files alone: IQL, REINFORCE, held near the cloned policy.", _iql_reinforce_bc),
    "filtered-bc-offline": Preset("From files alone: clone the best tenth.", _filtered_bc_offline),
    "bc": Preset("The supervised start alone: clone demonstrations or files.", _bc),
}
