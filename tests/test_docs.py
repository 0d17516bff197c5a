"""Every block of code in the README and on the documentation site does what it says, in small."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import archer.api
import archer.collecting
import archer.doctoring
import archer.training
from archer.config import RunConfig
from archer.settings import flatten, overlay, to_dict
from tests.conftest import Command
from tests.pages import Reader, blocks_of, given, provide

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RECORDS = {DOCS / "log.md", DOCS / "results.md"}
"""What was done once, with the commands of that time."""
PAGES = sorted({ROOT / "README.md", *DOCS.rglob("*.md")} - RECORDS)
LANGUAGES = {"bash", "python", "json", "yaml", "text", ""}
"""Every language that blocks are in; the last two are drawings and what programs print."""

MOST: dict[str, Any] = {
    "model.tiny.layers": 1, "model.tiny.width": 32, "model.tiny.heads": 2,
    "demonstrations.games": 16, "supervised.epochs": 1, "critic_start.epochs": 1, "actor_start.epochs": 1,
    "rollout.games": 4, "rollout.group": 2, "rollout.best_of": 2, "rollout.parallel": 8, "rollout.max_turns": 3,
    "rollout.utterance_tokens": 4,
    "critic.updates": 1, "critic.batch_turns": 16,
    "actor.updates": 1, "actor.batch_turns": 16, "actor.siblings": 2,
    "eval.games": 2, "eval.final_games": 4, "iterations": 1, "warmup": 0,
}  # fmt: skip
"""A run of a page may have at most so much of each: what it does stays what its settings say, but for how long."""
GAMES = 20
"""Most games of an evaluation or a file; `archer doctor` needs as many."""


def _small(config: RunConfig) -> RunConfig:
    """The same settings, with no more of anything than ``MOST``."""
    wanted = flatten(to_dict(config))
    changes: dict[str, Any] = {}
    for name, most in MOST.items():
        if wanted[name] is None or wanted[name] > most:
            part, _, rest = name.partition(".")
            nested: Any = most
            for key in reversed(rest.split(".") if rest else []):
                nested = {key: nested}
            changes = _merged(changes, {part: nested})
    return overlay(config, changes, "test")


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(left[key], right[key]) for key in left.keys() & right.keys()}
    return left | right | both


@pytest.fixture
def in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever trains, plays or collects in this process does little of it; all else is as it is for users."""
    train = archer.training.train

    def little(config: RunConfig | None = None, *arguments: Any, resume: bool = False, **more: Any) -> Any:
        return train(None if resume else _small(config or RunConfig()), *arguments, resume=resume, **more)

    monkeypatch.setattr(archer.training, "train", little)
    for forbidden in ("archer.view.server.serve", "archer.benchmarks.bench.bench"):  # for ever, and for minutes
        monkeypatch.setattr(forbidden, _refuse)
    for module, name, place in (
        (archer.api, "evaluate_actor", 2),
        (archer.doctoring, "evaluate_actor", 2),
        (archer.collecting, "_seeds", 0),
    ):
        monkeypatch.setattr(module, name, _with_few_games(getattr(module, name), place))


def _refuse(*arguments: Any, **more: Any) -> None:
    raise AssertionError("mark this line of the page as not run")


def _with_few_games(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A function whose argument in this place, a number of games, is never above ``GAMES``."""

    def little(*args: Any, **more: Any) -> Any:
        return function(*args[:place], min(args[place], GAMES), *args[place + 1 :], **more)

    return little


def _module() -> dict[str, str]:
    """``my_module.py`` with the environment that the README shows, and other names for it."""
    shown = next(b for b in blocks_of((ROOT / "README.md").read_text("utf-8")) if b.title == "my_module.py")
    return {"my_module.py": shown.text + "\n\nMyTask = GuessNumber\n"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny run of the smallest task that ships, and twenty conversations of it."""
    from archer.conversations import write_conversations
    from archer.envs.guess_number import GuessNumber

    folder = tmp_path_factory.mktemp("shared")
    config = overlay(RunConfig(), {"env": {"name": "guess-number"}, "eval": {"every": 1}, "threads": 1}, "test")
    archer.training.train(_small(config), folder / "run")
    logs = folder / "logs.jsonl"
    write_conversations(logs, archer.collecting.collect_scripted("demonstrator", GuessNumber, GAMES, 0))
    return folder / "run", logs


@pytest.fixture
def reader(
    tmp_path: Path, command: Command, in_small: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """A reader in an empty folder, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Reader(tmp_path, command)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_the_blocks_of_a_page_do_what_they_say(page: Path, reader: Reader, shared: tuple[Path, Path]) -> None:
    text = page.read_text(encoding="utf-8")
    for name in given(text):
        provide(name, reader.folder, shared[0], _module(), shared[1])
    for block in blocks_of(text):
        began = time.perf_counter()
        try:
            reader.follow(block)
        except BaseException as error:
            error.add_note(f"{_named(page)}, the block in line {block.line}")
            raise
        print(f"{time.perf_counter() - began:.2f} s  {_named(page)}:{block.line}")
