"""What the `archer` command does beside runs: list presets and environments, check one of these, play in one."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archer.algorithms.presets import PRESETS
from archer.cli.checks import at_least_one, not_negative
from archer.cli.commands import CheckEnv, Envs, Play, Presets
from archer.config.layers import parse_assignment
from archer.envs import ADAPTERS, ENVS, make_factory
from archer.envs.base import close
from archer.envs.hosting import Hosting
from archer.progress import Progress
from archer.report.console import printable, show

COLOURS = {"ok": "green", "note": "yellow", "error": "red"}


def envs(command: Envs) -> None:
    """List what can be played."""
    show("Environments", {name: spec.description for name, spec in (ENVS | ADAPTERS).items()}, as_json=command.json)


def presets(command: Presets) -> None:
    """List the methods."""
    show("Presets", {name: preset.description for name, preset in PRESETS.items()}, as_json=command.json)


def check_env(command: CheckEnv) -> None:
    """Check an environment and say how to mend it; exit status 1 where it has errors."""
    from archer.envs.checking import check

    at_least_one("--games", command.games)
    options: dict[str, object] = {}
    for assignment in command.set:
        options |= parse_assignment(assignment)
    make_env = make_factory(command.env, options)
    with Progress(quiet=command.json) as progress:
        progress.stage("playing", command.games, unit="games")
        found = check(make_env, command.games, report=progress.count)
    if command.json:
        print(json.dumps([dataclasses.asdict(finding) | {"mend": finding.mend} for finding in found]))
    else:
        table = Table(title=Text(printable(command.env)), title_justify="left", show_lines=False)
        for name in ("", "check", "found", "what to do"):
            table.add_column(name, overflow="fold")
        for finding in found:
            colour = COLOURS[finding.level]
            table.add_row(
                Text(finding.level, style=colour), finding.check, Text(printable(finding.message)), Text(finding.mend)
            )
        Console().print(table)
    if any(finding.level == "error" for finding in found):
        sys.exit(1)


def play(command: Play) -> None:
    """Play in the terminal, on either side."""
    not_negative("--best-of", command.best_of)
    if command.best_of and command.side == "agent":
        raise ValueError("--best-of is for --side env: it is the agent's critic that chooses")
    if command.env is not None and command.side == "agent":
        raise ValueError("--env is for --side env: playing the agent, name the environment alone")
    if command.side == "agent" and (Path(command.what) / "config.yaml").is_file():
        raise ValueError(f"{command.what} is a run: add --side env, and you answer its agent; or name an environment")
    from archer.operations.playing import play_as_agent, play_as_environment

    console = Console()
    if command.side == "agent":
        with Hosting(make_factory(command.what, {})) as hosting:
            env = hosting()
            try:
                play_as_agent(env, command.seed, console)
            finally:
                close(env)
    else:
        play_as_environment(Path(command.what), command.seed, console, command.best_of, command.env)
