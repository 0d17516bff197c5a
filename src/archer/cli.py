"""The `archer` command: train, evaluate, play, envs, presets."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro
from rich.console import Console

from archer.algorithms.presets import PRESETS
from archer.config import RunConfig
from archer.envs import ENVS, make_factory
from archer.report.console import interval, print_table, render_game
from archer.settings import load_yaml, overlay, parse_assignment

Json = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class Train:
    """Train an agent: supervised start, then online ArCHer.

    Settings come from a preset, then a YAML file, then `--set name=value`, the later one winning:
    archer train --preset archer --env twenty-questions --set critic.lr=3e-4 actor.siblings=8
    """

    run: Path = Path("runs/latest")
    """Folder of the new run."""
    preset: str = "archer"
    """A name from `archer presets`."""
    env: str | None = None
    """A name from `archer envs`, or package.module:Name of your own."""
    config: Path | None = None
    """YAML file of settings."""
    set: tuple[str, ...] = ()
    """Single settings, `name=value`; `archer train --show` lists all names."""
    seed: int | None = None
    """Seed of everything."""
    resume: Path | None = None
    """Go on with this run instead; it keeps its own settings."""
    tracker: tuple[Literal["wandb", "trackio"], ...] = ()
    """Dashboards to log to as well."""
    show: Json = False
    """Print the complete settings as YAML and stop."""
    json: Json = False
    """Print the result as one JSON object."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained agent on games that were never trained on."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    episodes: int = 1000
    """Games to play."""
    greedy: Json = False
    """Take the most likely token instead of sampling."""
    best_of: int = 0
    """Play the games once more with the critic choosing among this many sampled utterances; 0 leaves it out."""
    json: Json = False
    """Print the result as one JSON object."""


@dataclass(frozen=True)
class Play:
    """Play in the terminal: against an environment yourself, or as the environment against a trained agent."""

    what: Annotated[str, tyro.conf.Positional]
    """Your side `agent`: an environment's name. Your side `env`: a run's folder."""
    side: Literal["agent", "env"] = "agent"
    """Whose words you write."""
    seed: int = 0
    """Seed of the game."""
    best_of: int = 0
    """Your side `env`: the agent's critic chooses among this many sampled utterances; 0 takes the first."""


@dataclass(frozen=True)
class Envs:
    """List the built-in environments."""

    json: Json = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Presets:
    """List the presets."""

    json: Json = False
    """Print one JSON object."""


Command = Train | Evaluate | Play | Envs | Presets


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command."""
    command: Command = tyro.cli(Command, args=arguments, prog="archer", description=__doc__)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _RUNNERS[type(command)](command)
    except (ValueError, RuntimeError, OSError) as error:
        _fail(str(error), 2 if isinstance(error, ValueError) else 1)
    except KeyboardInterrupt:
        where = getattr(command, "resume", None) or getattr(command, "run", None)
        hint = f"\nEverything up to the last finished iteration is saved; go on with: archer train --resume {where}"
        _fail("stopped" + (hint if isinstance(command, Train) else ""), 130)


def settings(command: Train) -> RunConfig:
    """The configuration that a train command describes."""
    if command.preset not in PRESETS:
        raise ValueError(f"--preset: unknown {command.preset!r}; known: {', '.join(PRESETS)}")
    env = command.env or RunConfig().env.name
    config = overlay(RunConfig(), PRESETS[command.preset].settings(env), f"preset {command.preset}")
    config = dataclasses.replace(config, preset=command.preset)
    if command.config is not None:
        config = load_yaml(config, command.config)
    for assignment in command.set:
        config = overlay(config, parse_assignment(assignment), "--set")
    if command.seed is not None:
        config = overlay(config, {"seed": command.seed}, "--seed")
    return config


def _train(command: Train) -> None:
    config = settings(command)
    if command.show:
        from archer.settings import to_yaml

        print(to_yaml(config), end="")
        return
    if command.resume is None:
        make_factory(config.env.name, config.env.options)  # refused here, before torch takes seconds to load
    from archer.metrics import make_tracker
    from archer.progress import Progress
    from archer.runfolder import RunFolder
    from archer.settings import to_dict
    from archer.training import examples, train

    folder = command.resume or command.run
    trackers = tuple(make_tracker(name, folder.name, to_dict(config)) for name in command.tracker)
    summary = train(
        config, folder, resume=command.resume is not None, progress=Progress(quiet=command.json), trackers=trackers
    )
    if command.json:
        print(json.dumps(summary.__dict__))
        return
    console = Console()
    before, after = examples(RunFolder.open(folder))
    console.print(render_game(before, "\nA game before training"))
    console.print(render_game(after, "\nThe same task after training"))
    rows = {
        "return before (supervised start)": interval(summary.start_return, summary.start_ci95),
        "return after": interval(summary.return_mean, summary.return_ci95),
    }
    if summary.reference_return is not None:
        rows["best possible return"] = f"{summary.reference_return:.2f}"
    if summary.gap_closed is not None:
        rows["gap closed"] = f"{100 * summary.gap_closed:.0f} %"
    rows["games played, warm-up included"] = str(summary.games)
    rows["demonstrations cloned"] = str(summary.demonstrations)
    rows["learning curve"] = summary.curve
    print_table(console, f"\n{summary.task}", rows)


def _evaluate(command: Evaluate) -> None:
    if command.episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {command.episodes}")
    _check_best_of(command.best_of)
    from archer.api import evaluate, load

    result = evaluate(load(command.run), episodes=command.episodes, greedy=command.greedy, best_of=command.best_of)
    _show("Evaluation", result, as_json=command.json)


def _check_best_of(count: int) -> None:
    if count < 0:
        raise ValueError(f"--best-of must not be negative, got {count}")


def _play(command: Play) -> None:
    _check_best_of(command.best_of)
    if command.best_of and command.side == "agent":
        raise ValueError("--best-of is for --side env: it is the agent's critic that chooses")
    from archer.api import play_as_agent, play_as_environment

    console = Console()
    if command.side == "agent":
        play_as_agent(make_factory(command.what, {})(), command.seed, console)
    else:
        play_as_environment(Path(command.what), command.seed, console, command.best_of)


def _envs(command: Envs) -> None:
    _show("Environments", {name: spec.description for name, spec in ENVS.items()}, as_json=command.json)


def _presets(command: Presets) -> None:
    _show("Presets", {name: preset.description for name, preset in PRESETS.items()}, as_json=command.json)


def _show(title: str, content: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(content))
        return
    rows = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in content.items()}
    print_table(Console(), title, rows)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    print(f"archer: {message}", file=sys.stderr)
    sys.exit(code)


_RUNNERS: dict[type, Any] = {Train: _train, Evaluate: _evaluate, Play: _play, Envs: _envs, Presets: _presets}
