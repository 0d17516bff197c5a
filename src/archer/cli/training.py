"""What the `archer` command does to train: its settings, the run, what memory that will need, a cluster to try."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console

from archer.cli.checks import at_least_one
from archer.cli.commands import ClusterDemo, Plan, Settings, Train
from archer.config import RunConfig
from archer.config.layers import Layer, build, parse_assignment, read_yaml, to_dict, to_yaml
from archer.envs import make_factory
from archer.launch import reports
from archer.recipe import compose, last_said
from archer.report.console import interval, print_table, render_game
from archer.storage.conversations import check_file
from archer.storage.runfolder import RunFolder

CHUNK = 16
"""Games that a player is handed at once, where nothing else is said: from so many on, matrix products are quick."""
RUN = next(part for part in dataclasses.fields(Train) if part.name == "run")


def settings(command: Settings) -> RunConfig:
    """The configuration that a command describes: a recipe, then a file, then flags."""
    layers = []
    if command.offline:
        layers.append(Layer({"demonstrations": {"games": None}}, "--offline"))
    if isinstance(command, Train) and command.cluster is not None:
        layers.append(Layer({"cluster": {"chunk": CHUNK}}, "--cluster"))
    if command.config is not None:
        layers.append(read_yaml(command.config))
    if command.preset is not None:
        layers.append(Layer({"preset": command.preset}, "--preset"))
    if command.env is not None:
        layers.append(Layer({"env": {"name": command.env}}, "--env"))
    if command.offline:
        layers.append(Layer({"demonstrations": {"files": [str(path) for path in command.offline]}}, "--offline"))
    if command.start_from is not None:
        layers.append(Layer({"start_from": str(command.start_from)}, "--start-from"))
    layers += [Layer(parse_assignment(assignment), "--set") for assignment in command.set]
    if command.seed is not None:
        layers.append(Layer({"seed": command.seed}, "--seed"))
    env = None if command.offline else RunConfig().env.name
    if isinstance(source := last_said(layers, "start_from", None), str):
        earlier = RunFolder.open(Path(source)).config()
        if last_said(layers, "preset", None) is None:
            return build(earlier, layers)
        layers.insert(0, Layer({"env": to_dict(earlier)["env"]}, f"the task of {source}"))
    alone = bool(command.offline) and last_said(layers, "env.name", env) is None
    return compose(layers, preset="archer-offline" if alone else "archer", env=env)


def train(command: Train) -> None:
    if command.resume is not None:
        for part in (*dataclasses.fields(Settings), RUN):
            if getattr(command, part.name) != part.default:
                flag = part.name.replace("_", "-")
                raise ValueError(
                    f"--resume goes on with the run's own settings, in its folder: leave --{flag} out, or begin a new "
                    f"run with --start-from {command.resume}"
                )
    config = settings(command) if command.resume is None else RunFolder.open(command.resume).config()
    if command.show:
        if reports():
            print(to_yaml(config), end="")
        return
    if command.resume is None:  # refused here, before torch takes seconds to load
        if config.env.name is not None:
            make_factory(config.env.name, config.env.options)
        for name in config.demonstrations.files:
            check_file(Path(name))
    if command.workers is not None and command.cluster is None:
        raise ValueError("--workers: players are of runs on a cluster: add --cluster (threads are rollout.workers)")
    from archer import training
    from archer.cluster.joining import Cluster
    from archer.measuring import examples
    from archer.metrics import make_tracker
    from archer.progress import Progress

    folder = command.resume or command.run
    trackers = tuple(make_tracker(name, folder.name, to_dict(config)) for name in command.tracker)
    cluster = None if command.cluster is None else Cluster(command.cluster, command.workers)
    with Progress(quiet=command.json) as progress:
        summary = training.train(
            config, folder, resume=command.resume is not None, progress=progress, trackers=trackers, cluster=cluster
        )
    if not reports():
        return
    if command.json:
        print(json.dumps(summary.__dict__))
        return
    console = Console()
    rows: dict[str, str] = {}
    if (games := examples(RunFolder.open(folder))) is not None:
        console.print(render_game(games[0], "\nA game before training"))
        console.print(render_game(games[1], "\nThe same task after training"))
    if summary.start_return is not None and summary.return_mean is not None:
        rows["return before"] = interval(summary.start_return, summary.start_ci95)
        rows["return after"] = interval(summary.return_mean, summary.return_ci95)
        rows["returns of"] = RunFolder.open(folder).config().eval.played_by
    if summary.reference_return is not None:
        rows["best possible return"] = f"{summary.reference_return:.2f}"
    if summary.gap_closed is not None:
        rows["gap closed"] = f"{100 * summary.gap_closed:.0f} %"
    rows["games played, warm-up included"] = str(summary.games)
    returning = "" if summary.demonstrations_return is None else f", returning {summary.demonstrations_return:.2f}"
    rows["demonstrations"] = f"{summary.demonstrations}{returning}"
    if summary.skipped:
        rows["malformed conversations, skipped"] = str(summary.skipped)
    rows["learning curve" if summary.curve else "run"] = summary.curve or summary.run
    print_table(console, f"\n{summary.task}", rows)


def plan(command: Plan) -> None:
    for name, number in (("devices", command.devices), ("turns", command.turns), ("tokens", command.tokens)):
        if number is not None:
            at_least_one(f"--{name}", number)
    config = settings(command)
    make_env = None if config.env.name is None else make_factory(config.env.name, config.env.options)
    from archer.planning.advice import report
    from archer.report.memory import print_plan

    found = report(
        config, make_env, processes=command.devices, memory=command.memory, turns=command.turns, tokens=command.tokens
    )
    if command.json:
        print(json.dumps(found))
    else:
        print_plan(Console(), found)


def cluster_demo(command: ClusterDemo) -> None:
    train(
        Train(
            run=command.run, env=command.env, set=command.set, json=command.json,
            cluster="local", workers=command.workers,
        )
    )  # fmt: skip
    summary = RunFolder.open(command.run).summary()
    before, after = summary["start_return"], summary["return_mean"]
    surely = after - summary["return_ci95"] > before + summary["start_ci95"]
    verdict = "it learned" if surely else "it did not learn for sure: the intervals of before and after overlap"
    print(f"{command.workers} players in a cluster of their own: {verdict}", file=sys.stderr)
