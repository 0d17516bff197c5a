"""Every block of code in the README and on the documentation site does what it says, in small."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import archer.api
import archer.operations.collecting
import archer.operations.doctoring
import archer.training
from archer.config import RunConfig
from archer.config.layers import ARGUMENTS, flatten, overlay, to_dict
from tests.conftest import Command
from tests.pages import Block, Reader, blocks_of, commands_of, given, provide

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
        (archer.operations.doctoring, "evaluate_actor", 2),
        (archer.operations.collecting, "collected_seeds", 0),
    ):
        monkeypatch.setattr(module, name, _with_few_games(getattr(module, name), place))


def _refuse(*arguments: Any, **more: Any) -> None:
    raise AssertionError("mark this line of the page as not run")


def _with_few_games(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A function whose argument in this place, a number of games, is never above ``GAMES``."""

    def little(*args: Any, **more: Any) -> Any:
        return function(*args[:place], min(args[place], GAMES), *args[place + 1 :], **more)

    return little


def _modules() -> dict[str, str]:
    """The environments that pages have their reader save, as other pages take them to be there."""
    shown = [*_blocks(ROOT / "README.md"), *_blocks(DOCS / "tutorial" / "own-environment.md")]
    saved = {block.title: block.text for block in shown if block.title}  # of several states of a file the last
    return saved | {"my_module.py": saved["my_module.py"] + "\n\nMyTask = GuessNumber\n"}


def _blocks(page: Path) -> list[Block]:
    return blocks_of(page.read_text(encoding="utf-8"))


def _prose(page: Path) -> str:
    """A page without its blocks."""
    text = page.read_text(encoding="utf-8")
    for block in _blocks(page):
        text = text.replace(f"\n{block.text}```", "\n```")
    return text.replace("```", "")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny run of the smallest task that ships, and twenty conversations of it."""
    from archer.envs.guess_number import GuessNumber
    from archer.storage.conversations import write_conversations

    folder = tmp_path_factory.mktemp("shared")
    config = overlay(RunConfig(), {"env": {"name": "guess-number"}, "eval": {"every": 1}, "threads": 1}, "test")
    archer.training.train(_small(config), folder / "run")
    logs = folder / "logs.jsonl"
    write_conversations(logs, archer.operations.collecting.collect_scripted("demonstrator", GuessNumber, GAMES, 0))
    return folder / "run", logs


@pytest.fixture
def reader(tmp_path: Path, command: Command, in_small: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
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
        provide(name, reader.folder, shared[0], _modules(), shared[1])
    for block in blocks_of(text):
        began = time.perf_counter()
        try:
            reader.follow(block)
        except BaseException as error:
            error.add_note(f"{_named(page)}, the block in line {block.line}")
            raise
        print(f"{time.perf_counter() - began:.2f} s  {_named(page)}:{block.line}")


def test_no_block_escapes_unnoticed() -> None:
    found = {block.language for page in PAGES for block in _blocks(page)}
    assert found == LANGUAGES, "a language that nobody runs, or one that is gone"
    for page in PAGES:
        for block in _blocks(page):
            if block.language in ("text", ""):
                assert "archer train" not in block.text, f"{_named(page)}:{block.line} is to be pasted: call it bash"
        assert not re.search(r"^( {4}|\t)(archer |import |from \w+ import)", _prose(page), re.MULTILINE), _named(page)


def test_what_is_not_run_is_there_and_said_why() -> None:
    for page in PAGES:
        marks = page.read_text(encoding="utf-8").count("<!-- not run")
        marked = [block for block in _blocks(page) if block.not_run]
        assert len(marked) == marks, f"{_named(page)}: a mark that does not stand directly above a block"
        for block in marked:
            lines = {" ".join(words) for words in commands_of(block.text)}
            assert set(block.spared) <= lines, f"{_named(page)}:{block.line}: marked lines that it does not have"


def test_settings_and_metrics_that_are_named_exist(shared: tuple[Path, Path]) -> None:
    known = set(flatten(to_dict(RunConfig())))
    # what this run logged, and, of other methods, what the sources name
    told = (shared[0] / "metrics.jsonl").read_text(encoding="utf-8").replace("/", " ")
    source = told + "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    parts = {name.partition(".")[0] for name in known if "." in name}
    setting = re.compile(rf"`(?:[^`]* )?((?:{'|'.join(sorted(parts))})\.[a-z_][a-z_.]*)[^`]*`")
    metric = re.compile(r"`(?:rollout|critic|actor|eval|time)/([a-z_]+?)(?:_(?:NN|\d+))?`")
    pages = [DOCS / "troubleshooting.md", *DOCS.glob("howto/*.md"), *DOCS.glob("tutorial/*.md"), DOCS / "method.md"]
    found = 0
    for page in pages:
        text = _prose(page)
        for name in setting.findall(text):
            found += 1
            if not name.endswith((".md", ".parquet", ".jsonl")):
                assert name in known or name.startswith(tuple(ARGUMENTS)), f"{_named(page)}: there is no setting {name}"
        for name in metric.findall(text):
            found += 1
            name = name.removeprefix("env_")  # failures are counted by their kind
            assert re.search(rf"\b{name}", source), f"{_named(page)}: there is no metric {name}"
    assert found > 50


def test_every_page_is_in_the_menu() -> None:
    listed: list[str] = []

    def walk(entry: Any) -> None:
        if isinstance(entry, str):
            listed.append(entry)
        else:
            for below in entry.values() if isinstance(entry, dict) else entry:
                walk(below)

    walk(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("```python\nassert 1 == 2, 'wrong'\n```\n", "wrong"),
        ("```bash\narcher train --set critic.lrr=1\n```\n", "critic.lrr"),
        ("<!-- not run: minutes -->\n```bash\narcher train --set critic.lrr=1\n```\n", "critic.lrr"),
        ("<!-- not run: minutes -->\n```python\nassert (\n```\n", "never closed"),
        ("```bash\nrm -rf runs\n```\n", "nothing is known"),
        ("```yaml\ncritic: {lrr: 1}\n```\n", "critic.lrr"),
        ('```json\n{"messages": []}\n```\n', "messages"),
        ("```ruby\n1\n```\n", "ruby"),
        ("```python\n1\n", "not closed"),
        ("```bash\narcher bench\n```\n", "not run"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(page: str, reason: str, reader: Reader) -> None:
    with pytest.raises((AssertionError, ValueError, SyntaxError)) as refused:
        for block in blocks_of(page):
            reader.follow(block)
    assert reason in str(refused.value)
