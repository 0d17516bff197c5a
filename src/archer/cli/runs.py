"""What the `archer` command does with runs: measure, let play, score, examine, compare, hand out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from archer.cli.checks import at_least_one, not_negative
from archer.cli.commands import Bench, Collect, Compare, Doctor, Evaluate, Export, Score, Show, View
from archer.envs import make_factory
from archer.progress import Progress
from archer.report.console import show
from archer.storage.conversations import Problem, check_free_to_write, read_all, skipping, write_conversations

LAST_PORT = 65_535


def evaluate(command: Evaluate) -> None:
    """Measure a trained agent."""
    at_least_one("--episodes", command.episodes)
    not_negative("--best-of", command.best_of)
    from archer import api

    run = api.load(command.run, engine=command.engine)
    with Progress(quiet=command.json) as progress:
        found = api.evaluate(
            run, episodes=command.episodes, temperature=command.temperature, best_of=command.best_of,
            env=command.env, progress=progress,
        )  # fmt: skip
    show("Evaluation", found, as_json=command.json)


def collect(command: Collect) -> None:
    """Let somebody play, and keep the conversations."""
    check_free_to_write(command.out)
    at_least_one("--episodes", command.episodes)
    from archer.operations.collecting import PLAYERS, collect_run, collect_scripted

    played_by = command.what
    with Progress(quiet=command.json) as progress:
        if command.what not in PLAYERS:
            from archer.api import load

            run = load(Path(command.what), engine=command.engine)
            played_by = run.config.eval.played_by
            games = collect_run(run, command.episodes, command.seed, command.env, progress)
        elif command.engine is not None:
            raise ValueError(f"--engine is what speaks for a run, and {command.what} is a scripted player")
        elif command.env is None:
            raise ValueError(f"--env: name the environment whose {command.what} is to play")
        else:
            make_env = make_factory(command.env, {})
            games = collect_scripted(command.what, make_env, command.episodes, command.seed, progress)
    write_conversations(command.out, games)
    returns = [game.return_ for game in games]
    mean = sum(returns) / len(returns)
    result = {"file": str(command.out), "episodes": len(games), "played_by": played_by, "return_mean": mean}
    show("Collected", result, as_json=command.json)


def export(command: Export) -> None:
    """Write a policy out for others."""
    from archer.operations import exporting

    show("Exported", exporting.export(command.run, command.out, merge=command.merge), as_json=command.json)


def score(command: Score) -> None:
    """Say what every utterance of given conversations is worth."""
    games, malformed = read_all([command.file], skip=command.skip_malformed, rewarded=False)
    from archer.api import load, load_critic
    from archer.operations import scoring
    from archer.report.console import render_scores

    run = load(command.run)
    critic = load_critic(run)
    episodes, unread = scoring.recorded_episodes(run, games, skip=command.skip_malformed)
    problems = [*malformed, *unread]
    with Progress(quiet=command.json) as progress:
        if problems:
            progress.message(skipping(problems))
        progress.stage("judging", len(episodes), unit="conversations")
        scores = scoring.score_episodes(run, critic, episodes, progress.count)
    if command.json:
        rows = [[{**turn.__dict__, "advantage": turn.advantage} for turn in game] for game in scores]
        print(json.dumps({"conversations": rows, **_left_out(problems)}))
        return
    console = Console()
    for number, (episode, turns) in enumerate(zip(episodes, scores, strict=True), start=1):
        if number <= command.show:
            rated = [(turn.utterance, turn.q, turn.v) for turn in turns]
            heard = [turn.observation for turn in episode.turns]
            came = "no reward given" if math.isnan(episode.return_) else f"return {episode.return_:g}"
            console.print(render_scores(f"Conversation {number}, {came}", heard, rated))
    summary = {"conversations": len(episodes), "skipped": len(problems), "utterances": sum(map(len, scores))}
    show("Scored", summary, as_json=False)


def _left_out(problems: Sequence[Problem]) -> dict[str, Any]:
    """Of conversations that were skipped: how many, and what was wrong with each."""
    return {"skipped": len(problems), "problems": [str(problem) for problem in problems]}


def show_run(command: Show) -> None:
    """A run at a glance."""
    from archer.operations.showing import overview
    from archer.report.console import print_overview

    not_negative("--games", command.games)
    found = overview(command.run, 0 if command.json else command.games)
    if command.json:
        last = {name: values[-1] for name, values in found.curves.items()}
        print(json.dumps({**found.facts, "metrics": last}))
    else:
        print_overview(Console(), found.facts, found.curves, found.games)


def view(command: View) -> None:
    """Write runs to one HTML file, or serve them until stopped."""
    from archer.comparison.curves import find_runs
    from archer.view.data import MOST

    if not 0 <= command.games <= MOST:
        raise ValueError(f"--games must be from 0 to {MOST}, got {command.games}")
    if not 0 <= command.port <= LAST_PORT:
        raise ValueError(f"--port must be from 0 to {LAST_PORT}, got {command.port}")
    if command.export is not None and not command.export.parent.is_dir():
        raise ValueError(f"--export: there is no folder {command.export.parent}; make it first")
    if not command.runs:
        raise ValueError("name the runs to look at, or a folder that holds them")
    runs = find_runs(command.runs)
    if command.export is not None:
        from archer.view.export import export as write_page

        with Progress() as progress:
            write_page(runs, command.export, command.games, progress)
        print(command.export)
        return
    from archer.view.server import serve

    serve(runs, command.port, lambda address: print(f"{address}  (Ctrl+C ends it)", flush=True))


def doctor(command: Doctor) -> None:
    """Examine a critic."""
    from archer.health.diagnosis import FEWEST_GAMES

    if command.file is not None and command.episodes is not None:
        raise ValueError("--file takes the place of games: leave --episodes out")
    if command.file is not None and command.env is not None:
        raise ValueError("--file takes the place of games: leave --env out")
    if command.episodes is not None and command.episodes < FEWEST_GAMES:
        raise ValueError(
            f"--episodes must be at least {FEWEST_GAMES}, got {command.episodes}: fewer games tell nothing"
        )
    if command.out is not None and (command.out.suffix != ".png" or not command.out.parent.is_dir()):
        raise ValueError(f"--out: {command.out} must end in .png and lie in a folder that exists")
    if command.skip_malformed and command.file is None:
        raise ValueError("--skip-malformed is for conversations of a file: name it with --file, or leave the flag out")
    games, malformed = read_all([command.file], skip=command.skip_malformed) if command.file else ([], [])
    from archer.api import load, load_critic
    from archer.operations.doctoring import EPISODES, examine, examine_episodes
    from archer.operations.scoring import recorded_episodes
    from archer.report.health import render_health
    from archer.report.reliability import plot_reliability

    run = load(command.run)
    problems: list[Problem] = []
    with Progress(quiet=command.json) as progress:
        if command.file is None:
            source = f"{command.episodes or EPISODES} evaluation games"
            found = examine(run, episodes=command.episodes or EPISODES, env=command.env, progress=progress)
        else:
            critic = load_critic(run)
            episodes, unread = recorded_episodes(run, games, skip=command.skip_malformed)
            if problems := [*malformed, *unread]:
                progress.message(skipping(problems))
            source = f"{len(episodes)} conversations of {command.file}"
            found = examine_episodes(run, critic, episodes, progress)
    if command.out is not None:
        plot_reliability(found.turns, command.out, title=f"{command.run}, iteration {run.iteration}, {source}")
    if command.json:
        about = {"run": str(command.run), "iteration": run.iteration, "source": source, **_left_out(problems)}
        print(json.dumps(about | found.summary()))
        return
    title = f"Critic of {command.run} after {run.iteration} iterations, on {source}"
    Console().print(render_health(title, found.health, found.diagnosis, found.development))


def compare(command: Compare) -> None:
    """Hold runs against each other."""
    if not command.runs:
        raise ValueError("name the runs to compare, or a folder that holds them")
    from archer.comparison import compare as comparing
    from archer.report.comparison_tables import as_json, print_comparison

    found = comparing.compare(
        command.runs, axis=command.axis, smooth=command.smooth, levels=command.levels, against=command.against,
        count_demonstrations=command.count_demonstrations, as_played=command.as_played,
    )  # fmt: skip
    if command.out is not None:
        from archer.report.comparison import write_comparison

        write_comparison(found, command.out)
    if command.json:
        print(json.dumps(as_json(found)))
    else:
        print_comparison(Console(), found)


def bench(command: Bench) -> None:
    """Measure this machine."""
    if command.repeats < 1 or command.threads < 1:
        raise ValueError("--repeats and --threads must be at least 1")
    from archer.benchmarks import bench as benchmark
    from archer.report.speed import print_speed

    with Progress(quiet=command.json) as progress:
        found = benchmark.bench(
            repeats=command.repeats, threads=command.threads, model=command.model, progress=progress
        ).plain()
    if command.json:
        print(json.dumps(found))
    else:
        print_speed(Console(), found)
