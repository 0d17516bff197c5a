"""The `archer` command: train, plan, evaluate, play, collect, export, score, doctor, compare, bench, envs, …."""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Any, NoReturn

import tyro

from archer.cli.commands import (
    Bench,
    CheckEnv,
    ClusterDemo,
    Collect,
    Command,
    Compare,
    Doctor,
    Envs,
    Evaluate,
    Export,
    Plan,
    Play,
    Presets,
    Score,
    Show,
    Train,
    View,
)
from archer.cli.envs import check_env, envs, play, presets
from archer.cli.runs import bench, collect, compare, doctor, evaluate, export, score, show_run, view
from archer.cli.training import cluster_demo, plan, train
from archer.envs.base import ContractError
from archer.launch import EndedElsewhere, launched, reports


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command."""
    command: Command = tyro.cli(Command, args=arguments, prog="archer", description=__doc__)
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.formatwarning = _warning
    try:
        if launched() > 1 and not isinstance(command, Train):
            raise ValueError("only `archer train` works in several processes; run this without torchrun")
        _RUNNERS[type(command)](command)
    except EndedElsewhere as error:
        if str(error):
            _fail(f"{error}{_how_to_go_on(command)}", 1)
        sys.exit(1)
    except (ValueError, ContractError, RuntimeError, OSError, FloatingPointError) as error:
        _fail(str(error), 2 if isinstance(error, ValueError) else 1)
    except EOFError:
        _fail("stopped: the input is at its end", 130)
    except KeyboardInterrupt:
        if not reports():
            sys.exit(130)
        _fail(f"stopped{_how_to_go_on(command)}", 130)


def _how_to_go_on(command: Command) -> str:
    if not isinstance(command, Train):
        return ""
    folder = command.resume or command.run
    if not (folder / "config.yaml").is_file():
        return "\nNothing is saved yet"
    where = f"{folder}" + (f" --cluster {command.cluster}" if command.cluster else "")
    if any(folder.glob("checkpoints/[0-9]*")):
        done = "Everything up to the last finished iteration is"
    else:
        done = "What was finished before is" if any(folder.glob("starts/[0-9]*")) else "No more than the settings are"
    return f"\n{done} saved; go on with: archer train --resume {where}"


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings are for whoever gave the command; those of libraries say where they come from."""
    ours = category.__module__.startswith("archer.")
    return f"archer: {message}\n" if ours else _PLAINLY(message, category, filename, lineno, line)


def _fail(message: str, code: int) -> NoReturn:
    print(f"archer: {message}", file=sys.stderr)
    sys.exit(code)


_PLAINLY = warnings.formatwarning
_RUNNERS: dict[type, Any] = {
    Train: train,
    Plan: plan,
    ClusterDemo: cluster_demo,
    Evaluate: evaluate,
    Play: play,
    CheckEnv: check_env,
    Collect: collect,
    Export: export,
    Score: score,
    Show: show_run,
    View: view,
    Doctor: doctor,
    Compare: compare,
    Bench: bench,
    Envs: envs,
    Presets: presets,
}
