"""What the `archer` command can be asked for: one dataclass per sub-command, from which its flags and help are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Json = Annotated[bool, tyro.conf.FlagCreatePairsOff]
AsJson = Annotated[Json, tyro.conf.arg(help="Print the result as one JSON object.")]
Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="Folder of the run.")]
Env = Annotated[
    str | None,
    tyro.conf.arg(help="Environment, in place of the run's own; one that learned from files alone has none."),
]


@dataclass(frozen=True)
class Settings:
    """What the settings of a run are made of."""

    preset: str | None = None
    """A name from `archer presets`; left out, archer, or archer-offline where there are files and no environment."""
    env: str | None = None
    """A name from `archer envs`, or package.module:Name of your own."""
    config: Path | None = None
    """YAML file of settings."""
    set: tuple[str, ...] = ()
    """Single settings, `name=value`; `archer train --show` lists all names."""
    seed: int | None = None
    """Seed of everything."""
    offline: tuple[Path, ...] = ()
    """Conversations to learn from (.jsonl, .parquet or episode shards) in place of the task's demonstrator."""
    start_from: Path | None = None
    """Begin with this run's actor, critic and demonstrations, and its settings unless there is a preset."""


@dataclass(frozen=True)
class Train(Settings):
    """Train an agent: supervised start, then reinforcement learning by the preset's method.

    Settings come from a preset, then a YAML file, then `--set name=value`, the later one winning:
    archer train --preset archer --env twenty-questions --set critic.lr=3e-4 rollout.best_of=5
    """

    run: Path = Path("runs/latest")
    """Folder of the new run."""
    resume: Path | None = None
    """Go on with this run instead; it keeps its own settings."""
    cluster: str | None = None
    """Ray cluster whose machines play the games: HOST:PORT, auto for the one this machine is in, local to start one."""
    workers: int | None = None
    """Players on the cluster; left out, as many as it has room for."""
    tracker: tuple[Literal["wandb", "trackio"], ...] = ()
    """Dashboards to log to as well."""
    show: Json = False
    """Print the complete settings as YAML and stop."""
    json: AsJson = False


@dataclass(frozen=True)
class Plan(Settings):
    """Say what memory a run will need, phase by phase, and what to change where it does not fit. Nothing is loaded.

    archer plan --set model.actor=PATH model.lora.rank=16 device=cuda --memory 80GB
    """

    devices: int = 1
    """Processes that will learn as one, each on such a device."""
    memory: str | None = None
    """What a device has, such as 80GB or 24GiB; left out, what this machine's has."""
    turns: int | None = None
    """Turns of a game; as the demonstrations have, unless this or `--tokens` is told."""
    tokens: int | None = None
    """Tokens of a game; rollout.max_tokens unless told."""
    json: Json = False
    """Print one JSON object; sizes are in bytes."""


@dataclass(frozen=True)
class ClusterDemo:
    """Train a built-in task on a Ray cluster of this machine alone (train --cluster local); say whether it learned."""

    run: Path = Path("runs/cluster-demo")
    """Folder of the new run."""
    env: str = "twenty-questions-10"
    """A name from `archer envs`."""
    workers: int = 2
    """Players."""
    set: tuple[str, ...] = ()
    """Single settings, `name=value`."""
    json: AsJson = False


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained agent on games that were never trained on."""

    run: Folder
    episodes: int = 1000
    """Games to play."""
    temperature: float | None = None
    """What the policy's logits are divided by, 0 to take the most likely token; left out, as it was trained."""
    best_of: int = 0
    """Play the games once more with the critic choosing among this many sampled utterances; 0: its eval.best_of."""
    env: Env = None
    engine: Literal["built-in", "vllm"] | None = None
    """What plays; left out, what played when the run was trained."""
    json: AsJson = False


@dataclass(frozen=True)
class Play:
    """Play in the terminal: against an environment yourself, or as the environment against a trained agent."""

    what: Annotated[str, tyro.conf.Positional]
    """Your side `agent`: an environment's name. Your side `env`: a run's folder."""
    side: Literal["agent", "env"] = "agent"
    """Whose words you write."""
    env: Env = None
    seed: int = 0
    """Seed of the game."""
    best_of: int = 0
    """Your side `env`: the agent's critic chooses among this many sampled utterances; 0: its eval.best_of."""


@dataclass(frozen=True)
class Collect:
    """Write conversations of a policy to a file, as `archer score` and other tools read them."""

    what: Annotated[str, tyro.conf.Positional]
    """A run's folder, or `demonstrator` or `reference`: the players that a task brings."""
    out: Path
    """File to write: .jsonl or .parquet, a conversation per line or row."""
    episodes: int = 1000
    """Games to play."""
    env: str | None = None
    """Environment, for the players; for a run, in place of its own."""
    seed: int = 0
    """Seed of the games; none of them is ever an evaluation game."""
    engine: Literal["built-in", "vllm"] | None = None
    """What plays for a run; left out, what played when it was trained."""
    json: AsJson = False


@dataclass(frozen=True)
class Export:
    """Write a trained policy as a folder that transformers and PEFT load, with a card that says what it is.

    archer export runs/q --out my-agent
    """

    run: Folder
    out: Path
    """The new folder."""
    merge: Json = False
    """Work an adapter into the model that it adapts, so that it needs neither PEFT nor that model."""
    json: AsJson = False


@dataclass(frozen=True)
class Score:
    """Say what a run's critic thinks of every utterance of given conversations: Q, V and advantage."""

    run: Folder
    file: Annotated[Path, tyro.conf.Positional]
    """Conversations: .jsonl or .parquet with messages, or an episode shard. Rewards may be missing."""
    skip_malformed: Json = False
    """Leave out conversations that cannot be read, and count them, instead of refusing the file."""
    show: int = 3
    """Conversations to print."""
    json: Json = False
    """Print all scores as one JSON object."""


@dataclass(frozen=True)
class Show:
    """Show a run in the terminal: where it stands, its curves, and a few games with what the critic thinks of them."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run; it may still be training."""
    games: int = 2
    """Games to print: the best and the worst of the last evaluation or iteration, and others between."""
    json: Json = False
    """Print where it stands and its last metrics as one JSON object."""


@dataclass(frozen=True)
class View:
    """Look at runs in the browser: curves, settings, and every game with what the critic thought of each utterance."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, or folders that hold some; they may still be training."""
    port: int = 8765
    """Of the local page, which no other machine can reach; 0 takes a free one."""
    export: Path | None = None
    """Write one HTML file that opens without a server or a network, instead of serving."""
    games: int = 50
    """Games of each kind that an exported file holds, the newest."""


@dataclass(frozen=True)
class Doctor:
    """Say how healthy a run's critic is, in plain words and numbers: the policy plays games it has never seen, and what
    the critic says of every turn is held against what became of it."""

    run: Folder
    episodes: int | None = None
    """Games to play; 200 unless told."""
    env: Env = None
    file: Path | None = None
    """Conversations (.jsonl or .parquet) to judge by instead of playing; none that the critic learned from."""
    skip_malformed: Json = False
    """Leave out conversations that cannot be read, and count them, instead of refusing the file."""
    out: Path | None = None
    """Picture to write, .png: realised returns against Q."""
    json: AsJson = False


@dataclass(frozen=True)
class Compare:
    """Compare runs of different methods on one task, over seeds: return at equal cost, and cost to equal return."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, or folders that hold some at any depth."""
    axis: Literal["games", "turns", "tokens", "seconds"] = "games"
    """What is spent: the axis of the picture, and what it takes to a return."""
    smooth: int = 5
    """Iterations in the centred mean of a curve, an odd number; 1 leaves it as it is."""
    levels: tuple[float, ...] = ()
    """Returns to reach; four between the start and the best curve if none are named."""
    against: str | None = None
    """A method, as the tables call it, whose cost to each return is divided by that of the others."""
    count_demonstrations: Json = False
    """Count the demonstrations of the supervised start as games."""
    as_played: Json = False
    """Where the critic chooses in training games and not in evaluations, show these games too, as another line."""
    out: Path | None = None
    """Folder for compare.png, compare.csv and compare.json."""
    json: Json = False
    """Print everything as one JSON object."""


@dataclass(frozen=True)
class Bench:
    """Measure how fast this machine plays and learns, against the published arrangement and the hardware's limits.

    A few minutes; nothing else should run meanwhile.
    """

    model: Path | None = None
    """Folder or hub name of a causal LM to play with as well."""
    repeats: int = 3
    """Runs of ours and of the reference, in turns; medians are told."""
    threads: int = 1
    """Threads of both."""
    json: Json = False
    """Print one JSON object: per measure ours, reference, ratio and spread."""


@dataclass(frozen=True)
class Envs:
    """List the built-in environments."""

    json: AsJson = False


@dataclass(frozen=True)
class CheckEnv:
    """Check an environment, your own or another: does it keep to the contract, and what will a run with it be like?

    archer check-env my_module:MyTask --set difficulty=3
    """

    env: Annotated[str, tyro.conf.Positional]
    """A name from `archer envs`, or package.module:Name of your own."""
    set: tuple[str, ...] = ()
    """Keyword arguments of the environment, `name=value`."""
    games: int = 20
    """Games to play."""
    json: Json = False
    """Print the findings as one JSON list."""


@dataclass(frozen=True)
class Presets:
    """List the presets."""

    json: AsJson = False


Command = (
    Train | ClusterDemo | Plan | Evaluate | Play | Collect | Export | Score | Show | View | Doctor | Compare | Bench
    | Envs | CheckEnv | Presets
)  # fmt: skip
"""Whatever was asked for."""
