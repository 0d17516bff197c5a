"""Which settings of different parts go together: each rule with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from archer.config.learning import ActorConfig, ActorStartConfig, CriticConfig, CriticStartConfig, OptimizerConfig
from archer.config.parts import DemonstrationsConfig, EvalConfig, ModelConfig, RolloutConfig


def check_combination(
    model: ModelConfig,
    demonstrations: DemonstrationsConfig,
    rollout: RolloutConfig,
    critic_start: CriticStartConfig,
    actor_start: ActorStartConfig,
    critic: CriticConfig,
    actor: ActorConfig,
    evaluation: EvalConfig,
    *,
    has_env: bool,
    starts_from_run: bool,
    iterations: int,
    replay_turns: int,
) -> None:
    """Raise ValueError for settings that cannot work together, with what to do."""
    _check_data(demonstrations, rollout, critic, actor, has_env, starts_from_run, iterations)
    _check_critic(model, rollout, critic, actor, evaluation)
    _check_start(critic_start, actor_start, critic)
    _check_policy(rollout, actor, replay_turns)
    _check_adapters(model, rollout)


def check_device(device: str, optimized: Mapping[str, OptimizerConfig]) -> None:
    """Raise ValueError for what ``device`` cannot do."""
    for name, part in optimized.items():
        if part.states == "paged-8-bit" and device == "cpu":
            raise ValueError(
                f"{name}.states='paged-8-bit' moves between a GPU and its host, and device='cpu' has the one memory; "
                "set it to 8-bit"
            )


def _check_data(
    demonstrations: DemonstrationsConfig,
    rollout: RolloutConfig,
    critic: CriticConfig,
    actor: ActorConfig,
    has_env: bool,
    starts_from_run: bool,
    iterations: int,
) -> None:
    """Whoever learns needs something to learn from."""
    shares = {"critic.demonstrations": critic.demonstrations, "actor.demonstrations": actor.demonstrations}
    if not has_env and not (demonstrations.files or starts_from_run):
        raise ValueError("env.name=null leaves nothing to learn from; name an environment or files (--offline)")
    if not has_env and rollout.games and iterations:
        raise ValueError(
            f"rollout.games={rollout.games} plays, but env.name is null; set it to 0 or name an environment"
        )
    if rollout.games == 0 and iterations:
        if demonstrations.games == 0 and not starts_from_run:
            raise ValueError(
                "rollout.games=0 plays nothing, and with demonstrations.games=0 nothing is left to learn from"
            )
        learners = [
            (name, shares[name])
            for name, method in (("critic.demonstrations", critic.method), ("actor.demonstrations", actor.method))
            if method != "none"
        ]
        for name, share in learners:
            if share != 1:
                raise ValueError(
                    f"rollout.games=0 plays nothing: all must come from demonstrations, but {name}={share}"
                )


def _check_critic(
    model: ModelConfig, rollout: RolloutConfig, critic: CriticConfig, actor: ActorConfig, evaluation: EvalConfig
) -> None:
    """Whoever asks a critic needs one that knows the answer."""
    if critic.method in ("none", "tokens"):
        why = "there is no critic" if critic.method == "none" else "critic.method='tokens' learns no Q"
        if actor.method != "none" and actor.advantage in ("value", "siblings"):
            raise ValueError(f"actor.advantage={actor.advantage!r} needs Q, but {why}")
        for name, count in (("rollout.best_of", rollout.best_of), ("eval.best_of", evaluation.best_of)):
            if count:
                raise ValueError(f"{name}={count} lets Q choose, but {why}; set it to 0")
    if critic.method == "none" and actor.advantage == "gae":
        raise ValueError("actor.advantage='gae' needs V, but there is no critic; set critic.method='gae'")
    if actor.advantage == "token_gae" and critic.method != "tokens":
        raise ValueError("actor.advantage='token_gae' needs V of every token: set critic.method='tokens'")
    if critic.method == "tokens" and model.critic != "causal":
        raise ValueError("critic.method='tokens' needs model.critic='causal': the encoder reads whole utterances")


def _check_start(critic_start: CriticStartConfig, actor_start: ActorStartConfig, critic: CriticConfig) -> None:
    """The actor's start asks the critic's."""
    if not actor_start.epochs:
        return
    asks = f"actor_start.epochs={actor_start.epochs} clones what the critic's start finds good, but"
    if critic.method in ("none", "tokens"):
        raise ValueError(f"{asks} critic.method={critic.method!r} has no Q; set actor_start.epochs=0")
    if not critic_start.epochs:
        raise ValueError(f"{asks} critic_start.epochs is 0; set both to 0, or neither")


def _check_policy(rollout: RolloutConfig, actor: ActorConfig, replay_turns: int) -> None:
    """Who said what is learned from decides how it may be learned from."""
    if actor.advantage in ("group", "steps") and rollout.group < 2:
        raise ValueError(
            f"actor.advantage={actor.advantage!r} compares games of the same task seed, and rollout.group="
            f"{rollout.group} plays each once: every advantage would be 0; set rollout.group to at least 2"
        )
    if rollout.games % rollout.group:
        raise ValueError(f"rollout.games={rollout.games} is not a multiple of rollout.group={rollout.group}")
    if rollout.overlap and rollout.best_of:
        raise ValueError(
            f"rollout.best_of={rollout.best_of} asks the critic while games are played, and with rollout.overlap it is "
            "being updated meanwhile; leave one of them out"
        )
    if actor.utterances != "played" or actor.method not in ("reinforce", "baseline", "ppo"):
        return
    if actor.demonstrations:
        raise ValueError(
            f"actor.method={actor.method!r} learns from what the policy itself said, but actor.demonstrations="
            f"{actor.demonstrations}; use awr, filtered or cloning, or utterances='fresh'"
        )
    if rollout.best_of:
        raise ValueError(
            f"actor.method={actor.method!r} needs utterances as the policy samples them, and rollout.best_of="
            f"{rollout.best_of} lets the critic choose; set actor.utterances='fresh'"
        )
    if rollout.overlap and actor.method != "ppo":
        raise ValueError(
            f"actor.method={actor.method!r} learns from what the policy itself said, and with rollout.overlap the one "
            "that played is an iteration old; use method='ppo', whose ratio allows for it, or utterances='fresh'"
        )
    if replay_turns and actor.method != "ppo":
        raise ValueError(
            f"actor.method={actor.method!r} would learn from utterances of old policies; set replay_turns=0 to keep "
            "only the newest, or method='ppo', whose ratio allows for them"
        )


def _check_adapters(model: ModelConfig, rollout: RolloutConfig) -> None:
    """All networks pass through one base, one after another."""
    if not model.lora.rank:
        return
    if model.actor is None:
        raise ValueError(f"model.lora.rank={model.lora.rank} adapts a trained model; name one in model.actor")
    for name, wrong in {"rollout.overlap": rollout.overlap, "model.compile": model.compile}.items():
        if wrong:
            raise ValueError(f"{name} needs networks that stand apart, and adapters share one base; set it to false")
