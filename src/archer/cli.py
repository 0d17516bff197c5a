"""The `archer` command: train, evaluate, play, collect, export, score, doctor, compare, bench, envs, …."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import tyro
from rich.console import Console

from archer.algorithms.presets import PRESETS
from archer.commands import (
    Bench,
    CheckEnv,
    Collect,
    Command,
    Compare,
    Doctor,
    Envs,
    Evaluate,
    Export,
    Play,
    Presets,
    Score,
    Show,
    Train,
    View,
)
from archer.config import RunConfig
from archer.conversations import check_file
from archer.envcommands import check_best_of, check_env, check_episodes, envs, play, presets
from archer.envs import make_factory
from archer.report.console import interval, print_table, render_game, show
from archer.runfolder import RunFolder
from archer.settings import Layer, build, parse_assignment, read_yaml
from archer.view import view


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
    base, layers = RunConfig(), []
    if command.start_from is not None and command.preset is None:
        base = RunFolder.open(command.start_from).config()
    else:
        name = command.preset or ("archer-offline" if command.offline and command.env is None else "archer")
        if name not in PRESETS:
            raise ValueError(f"--preset: unknown {name!r}; known: {', '.join(PRESETS)}")
        env = command.env or (None if command.offline else base.env.name)
        layers.append(Layer({"preset": name, "env": {"name": env}}, f"preset {name}"))
        layers.append(Layer(PRESETS[name].settings(env), f"preset {name}"))
    if command.start_from is not None:
        layers.append(Layer({"start_from": str(command.start_from)}, "--start-from"))
    if command.env is not None:
        layers.append(Layer({"env": {"name": command.env}}, "--env"))
    if command.offline:
        files = [str(path) for path in command.offline]
        layers.append(Layer({"demonstrations": {"files": files, "games": None}}, "--offline"))
    if command.config is not None:
        layers.append(read_yaml(command.config))
    layers += [Layer(parse_assignment(assignment), "--set") for assignment in command.set]
    if command.seed is not None:
        layers.append(Layer({"seed": command.seed}, "--seed"))
    return build(base, layers)


def _train(command: Train) -> None:
    config = settings(command)
    if command.show:
        from archer.settings import to_yaml

        print(to_yaml(config), end="")
        return
    if command.resume is None:  # refused here, before torch takes seconds to load
        if config.env.name is not None:
            make_factory(config.env.name, config.env.options)
        for name in config.demonstrations.files:
            check_file(Path(name))
    from archer.metrics import make_tracker
    from archer.progress import Progress
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
    rows: dict[str, str] = {}
    if (games := examples(RunFolder.open(folder))) is not None:
        console.print(render_game(games[0], "\nA game before training"))
        console.print(render_game(games[1], "\nThe same task after training"))
    if summary.start_return is not None and summary.return_mean is not None:
        rows["return before"] = interval(summary.start_return, summary.start_ci95)
        rows["return after"] = interval(summary.return_mean, summary.return_ci95)
    if summary.reference_return is not None:
        rows["best possible return"] = f"{summary.reference_return:.2f}"
    if summary.gap_closed is not None:
        rows["gap closed"] = f"{100 * summary.gap_closed:.0f} %"
    rows["games played, warm-up included"] = str(summary.games)
    rows["demonstrations"] = str(summary.demonstrations)
    rows["learning curve" if summary.curve else "run"] = summary.curve or summary.run
    print_table(console, f"\n{summary.task}", rows)


def _evaluate(command: Evaluate) -> None:
    check_episodes(command.episodes)
    check_best_of(command.best_of)
    from archer.api import evaluate, load

    found = evaluate(load(command.run), episodes=command.episodes, greedy=command.greedy, best_of=command.best_of)
    show("Evaluation", found, as_json=command.json)


def _collect(command: Collect) -> None:
    from archer.conversations import check_suffix, write_conversations

    check_suffix(command.out)
    check_episodes(command.episodes)
    from archer.collecting import PLAYERS, collect_run, collect_scripted

    if command.what not in PLAYERS:
        from archer.api import load

        games = collect_run(load(Path(command.what)), command.episodes, command.seed, command.env)
    elif command.env is None:
        raise ValueError(f"--env: name the environment whose {command.what} is to play")
    else:
        games = collect_scripted(command.what, make_factory(command.env, {}), command.episodes, command.seed)
    write_conversations(command.out, games)
    returns = [game.return_ for game in games]
    result = {"file": str(command.out), "episodes": len(games), "return_mean": sum(returns) / len(returns)}
    show("Collected", result, as_json=command.json)


def _export(command: Export) -> None:
    from archer.exporting import export

    show("Exported", export(command.run, command.out, merge=command.merge), as_json=command.json)


def _score(command: Score) -> None:
    from archer.conversations import read_all

    games, skipped = read_all([command.file], skip=command.skip_malformed)
    from archer.api import load
    from archer.report.console import render_scores
    from archer.scoring import score

    scores = score(load(command.run), games)
    if command.json:
        rows = [[{**turn.__dict__, "advantage": turn.advantage} for turn in game] for game in scores]
        print(json.dumps({"conversations": rows, "skipped": skipped}))
        return
    console = Console()
    for number, (game, turns) in enumerate(zip(games, scores, strict=True), start=1):
        if number <= command.show:
            rated = [(turn.utterance, turn.q, turn.v) for turn in turns]
            console.print(render_scores(f"Conversation {number}, return {game.return_:g}", game.observations, rated))
    summary = {"conversations": len(games), "skipped": skipped, "utterances": sum(map(len, scores))}
    show("Scored", summary, as_json=False)


def _show(command: Show) -> None:
    from archer.report.console import print_overview
    from archer.showing import overview

    if command.games < 0:
        raise ValueError(f"--games must not be negative, got {command.games}")
    found = overview(command.run, 0 if command.json else command.games)
    if command.json:
        last = {name: values[-1] for name, values in found.curves.items()}
        print(json.dumps({**found.facts, "metrics": last}))
    else:
        print_overview(Console(), found.facts, found.curves, found.games)


def _doctor(command: Doctor) -> None:
    from archer.health.diagnosis import FEWEST_GAMES

    if command.file is not None and command.episodes is not None:
        raise ValueError("--file takes the place of games: leave --episodes out")
    if command.episodes is not None and command.episodes < FEWEST_GAMES:
        raise ValueError(
            f"--episodes must be at least {FEWEST_GAMES}, got {command.episodes}: fewer games tell nothing"
        )
    if command.out is not None and (command.out.suffix != ".png" or not command.out.parent.is_dir()):
        raise ValueError(f"--out: {command.out} must end in .png and lie in a folder that exists")
    from archer.conversations import read_all

    games = None if command.file is None else read_all([command.file])[0]
    from archer.api import load
    from archer.doctoring import EPISODES, examine, examine_recorded
    from archer.report.health import render_health
    from archer.report.reliability import plot_reliability

    run = load(command.run)
    if games is None:
        source = f"{command.episodes or EPISODES} evaluation games"
        found = examine(run, episodes=command.episodes or EPISODES)
    else:
        source = f"{len(games)} conversations of {command.file}"
        found = examine_recorded(run, games)
    if command.out is not None:
        plot_reliability(found.turns, command.out, title=f"{command.run}, iteration {run.iteration}, {source}")
    if command.json:
        print(json.dumps({"run": str(command.run), "iteration": run.iteration, "source": source} | found.summary()))
        return
    title = f"Critic of {command.run} after {run.iteration} iterations, on {source}"
    Console().print(render_health(title, found.health, found.diagnosis, found.development))


def _compare(command: Compare) -> None:
    if not command.runs:
        raise ValueError("name the runs to compare, or a folder that holds them")
    from archer.comparison.compare import compare
    from archer.report.comparison_tables import as_json, print_comparison

    found = compare(
        command.runs, axis=command.axis, smooth=command.smooth, levels=command.levels, against=command.against,
        count_demonstrations=command.count_demonstrations,
    )  # fmt: skip
    if command.out is not None:
        from archer.report.comparison import write_comparison

        write_comparison(found, command.out)
    if command.json:
        print(json.dumps(as_json(found)))
    else:
        print_comparison(Console(), found)


def _bench(command: Bench) -> None:
    if command.repeats < 1 or command.threads < 1:
        raise ValueError("--repeats and --threads must be at least 1")
    from archer.benchmarks.bench import bench
    from archer.report.speed import print_speed

    console = Console(stderr=True)
    found = bench(
        repeats=command.repeats,
        threads=command.threads,
        model=command.model,
        report=lambda what: console.print(f"[dim]measuring {what} …[/dim]"),
    ).plain()
    if command.json:
        print(json.dumps(found))
    else:
        print_speed(Console(), found)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    print(f"archer: {message}", file=sys.stderr)
    sys.exit(code)


_RUNNERS: dict[type, Any] = {
    Train: _train,
    Evaluate: _evaluate,
    Play: play,
    CheckEnv: check_env,
    Collect: _collect,
    Export: _export,
    Score: _score,
    Show: _show,
    View: view,
    Doctor: _doctor,
    Compare: _compare,
    Bench: _bench,
    Envs: envs,
    Presets: presets,
}
