"""Which settings of different parts go together: each rule with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from archer.asking import check_address
from archer.config.engines import OURS, ServerConfig
from archer.config.learning import (
    ActorConfig,
    ActorStartConfig,
    CriticConfig,
    CriticStartConfig,
    OptimizerConfig,
    SupervisedConfig,
)
from archer.config.parts import ClusterConfig, DemonstrationsConfig, EvalConfig, ModelConfig, RolloutConfig


def check_combination(
    model: ModelConfig,
    demonstrations: DemonstrationsConfig,
    supervised: SupervisedConfig,
    rollout: RolloutConfig,
    critic_start: CriticStartConfig,
    actor_start: ActorStartConfig,
    critic: CriticConfig,
    actor: ActorConfig,
    evaluation: EvalConfig,
    cluster: ClusterConfig,
    *,
    has_env: bool,
    starts_from_run: bool,
    iterations: int,
    replay_turns: int,
    device: str,
) -> None:
    """Raise ValueError for settings that cannot work together, with what to do."""
    _check_data(demonstrations, rollout, critic, actor, has_env, starts_from_run, iterations)
    _check_critic(model, rollout, critic, actor, evaluation)
    _check_start(critic_start, actor_start, critic)
    _check_policy(rollout, actor, replay_turns)
    if rollout.processes and not rollout.workers:
        raise ValueError("rollout.processes needs rollout.workers: how many processes there are to be")
    _check_adapters(model, rollout)
    if rollout.layout == "chat" and model.actor is None and not starts_from_run:
        raise ValueError(
            "rollout.layout='chat' is for models of your own (model.actor=PATH): the built-in tiny model has no chat "
            "template"
        )
    _check_engine(model, rollout, has_env)
    if rollout.engine == "server":
        shown = demonstrations.games != 0 and not starts_from_run
        learns: dict[str, tuple[object, object, bool]] = {
            "actor.method": (actor.method, "none", actor.method != "none"),
            "supervised.epochs": (supervised.epochs, 0, shown and supervised.epochs > 0),
            "actor_start.epochs": (actor_start.epochs, 0, actor_start.epochs > 0),
        }
        if model.actor is None and not starts_from_run:
            raise ValueError("rollout.engine='server' plays a model that the server has; name it in model.actor")
        _check_server(model, rollout.server, learns)
    if cluster.chunk:
        _check_cluster(cluster, rollout, actor, device)
    if model.compile and rollout.overlap:
        raise ValueError(
            "rollout.overlap plays while the learner's compiled passes run, and torch.compile cannot be left out for "
            "one of both at a time; set model.compile or rollout.overlap to false"
        )
    if model.sharding != "none" and model.compile:
        raise ValueError(
            f"model.compile is for networks that lie whole, and model.sharding={model.sharding!r}; set it to false"
        )


def check_optimizers(device: str, sharding: str, optimized: Mapping[str, OptimizerConfig]) -> None:
    """Raise ValueError for optimizer states that cannot be kept where they would have to lie."""
    for name, part in optimized.items():
        if part.states != "float32" and sharding != "none":
            raise ValueError(
                f"{name}.states={part.states!r} is for networks that lie whole, and model.sharding={sharding!r}; "
                "set it to float32"
            )
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
    if critic.method == "none" and actor.method == "baseline":
        raise ValueError(
            "actor.method='baseline' learns the value of every token in the critic's unit, but there is no critic; set "
            "critic.method, or actor.method='reinforce' or 'ppo'"
        )
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
    if actor.method != "none" and actor.advantage in ("gae", "token_gae", "group", "steps") and actor.demonstrations:
        raise ValueError(
            f"actor.advantage={actor.advantage!r} is of games that were played, but actor.demonstrations="
            f"{actor.demonstrations} of every batch were not; set actor.demonstrations=0, or actor.advantage='value'"
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


def _check_engine(model: ModelConfig, rollout: RolloutConfig, has_env: bool) -> None:
    """Another engine than the built-in one can do less."""
    if rollout.engine != "server" and rollout.server != ServerConfig():
        raise ValueError(f"rollout.server says which server plays, but rollout.engine={rollout.engine!r}")
    if rollout.engine != "vllm" and rollout.vllm:
        raise ValueError(f"rollout.vllm has arguments of vLLM, but rollout.engine={rollout.engine!r}")
    if rollout.engine == "built-in":
        return
    name = f"rollout.engine={rollout.engine!r}"
    if not has_env:
        raise ValueError(f"{name} has nothing to play: env.name is null")
    if rollout.overlap:
        raise ValueError(
            f"{name} holds one version of the policy, and with rollout.overlap two are played with at once; set it to "
            "false"
        )
    if model.lora.rank and model.lora.dora:
        raise ValueError(f"{name} cannot play adapters of the kind model.lora.dora=true; set it to false")
    if taken := OURS & rollout.vllm.keys():
        raise ValueError(f"rollout.vllm.{min(taken)} follows from other settings; leave it out")


def _check_server(model: ModelConfig, server: ServerConfig, learns: dict[str, tuple[object, object, bool]]) -> None:
    """A server plays a model that it has, and adapters of it that it is sent."""
    check_address(server.url, "rollout.server.url")
    if not server.model:
        raise ValueError("rollout.engine='server' needs rollout.server.model, the name of model.actor there")
    if model.lora.rank:
        if not server.adapters:
            raise ValueError(
                "rollout.engine='server' sends every version of an adapter to the server through a folder that both "
                "read; name it in rollout.server.adapters"
            )
        return
    if server.adapters:
        raise ValueError("rollout.server.adapters is for adapters; set model.lora.rank, or leave it out")
    for name, (value, still, moves) in learns.items():
        if moves:
            raise ValueError(
                f"{name}={value!r} changes the policy, and a server's weights stay as they are; set model.lora.rank to "
                f"learn adapters, which it can load, or {name}={still}"
            )


def _check_cluster(cluster: ClusterConfig, rollout: RolloutConfig, actor: ActorConfig, device: str) -> None:
    """Players far away, with weights of some iterations ago."""
    if rollout.games == 0:
        raise ValueError("rollout.games=0 plays nothing, so there is nothing to do on a cluster; leave out --cluster")
    if rollout.overlap:
        raise ValueError(
            "rollout.overlap plays ahead on the learner's machine; on a cluster games are played meanwhile anyway, up "
            "to cluster.lag iterations behind: set rollout.overlap=false"
        )
    if rollout.server.adapters:
        raise ValueError(
            "rollout.server.adapters is a folder that one player writes to, and on a cluster there are several; play "
            "with rollout.engine='vllm' or the built-in engine"
        )
    own_words = actor.utterances == "played" and actor.method in ("reinforce", "baseline")
    if cluster.lag and own_words:
        raise ValueError(
            f"actor.method={actor.method!r} learns from what the policy itself said; with cluster.lag={cluster.lag} an "
            "older one may have played; set cluster.lag=0, or use method='ppo', whose ratio allows for it"
        )
    if (cluster.gpus > 0) != device.startswith("cuda"):
        raise ValueError(
            f"device={device!r} and cluster.gpus={cluster.gpus:g} do not go together: players get GPUs where device is "
            "cuda, and need a part of one there"
        )
