"""The pages of the documentation as a reader would go through them: their blocks of code, in order, in one folder.

What a page says to its test stands in HTML comments, which no reader sees:

``<!-- given: runs/q my_module.py -->``  anywhere: files and runs that its reader has from elsewhere, see ``GIVEN``.
``<!-- not run: it needs a GPU -->``     directly above a block: it is only parsed, and why.
``<!-- not run: `archer bench` takes minutes -->``  the same for this line of the block.
"""

from __future__ import annotations

import glob
import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
import yaml

from archer.cli.commands import Command as Asked
from archer.cli.commands import Train
from archer.cli.training import settings
from archer.config import RunConfig
from archer.config.layers import load_yaml, parse_assignment
from archer.storage.conversations import read_all
from tests.conftest import Done

FENCE = re.compile(r"^([ \t]*)```(.*)$")
TITLE = re.compile(r'title="([^"]+)"')
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
GIVEN = re.compile(r"<!-- given: (.+?) -->")
BACKTICKED = re.compile(r"`([^`]+)`")
OTHER_PROGRAMS = ("make ", "pip install ", "python3 -m venv ", ". ", "mkdir ", "cd ", "python benchmarks/")
"""Lines of a terminal that install things, go elsewhere or take hours: nothing that a test could do."""
TYPED = "10\n" * 20 + "\n"
"""What somebody types who plays."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    """Of its fence, from 1."""
    title: str = ""
    """Name of the file that it is to be saved as."""
    not_run: str = ""
    """Why it is only parsed, if it is."""

    @property
    def spared(self) -> tuple[str, ...]:
        """The lines that are only parsed; none means all of them."""
        return tuple(BACKTICKED.findall(self.not_run))

    def runs(self, line: str) -> bool:
        """Whether a line of it is run and not only parsed."""
        return not self.not_run or (bool(self.spared) and line not in self.spared)


def blocks_of(markdown: str) -> list[Block]:
    """All fenced blocks of a page; AssertionError for a fence that is not closed, or indented and so easily missed."""
    found: list[Block] = []
    lines = markdown.splitlines()
    inside: tuple[int, str] | None = None
    for number, line in enumerate(lines, start=1):
        fence = FENCE.match(line)
        if fence is None:
            continue
        assert not fence[1], f"line {number}: a fence that does not begin its line"
        if inside is None:
            inside = number, fence[2].strip()
            continue
        assert not fence[2], f"line {number}: a fence opens within a block"
        opened, header = inside
        above = NOT_RUN.match(lines[opened - 2]) if opened > 1 else None
        title = TITLE.search(header)
        found.append(
            Block(
                language=header.split(" ")[0],
                text="\n".join(lines[opened : number - 1]) + "\n",
                line=opened,
                title=title[1] if title else "",
                not_run=above[1] if above else "",
            )
        )
        inside = None
    assert inside is None, f"line {inside[0] if inside else 0}: a fence that is not closed"
    return found


def given(markdown: str) -> list[str]:
    """What a page's reader is supposed to have."""
    return [name for names in GIVEN.findall(markdown) for name in names.split()]


def commands_of(text: str) -> list[list[str]]:
    """The commands of a terminal as words: continued lines joined, several on a line apart, without comments."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word != ";":
                words.append(word)
            elif words:
                found.append(words)
                words = []
    return found


class Reader:
    """Somebody who pastes one block after the other, in a folder of their own."""

    def __init__(self, folder: Path, command: Callable[..., Done]) -> None:
        self.folder, self._command = folder, command
        self._names: dict[str, Any] = {"__name__": "a_page"}

    def follow(self, block: Block) -> None:
        """Do what a block says, or see that it could be done."""
        match block.language:
            case "python":
                self._python(block)
            case "bash":
                for words in commands_of(block.text):
                    self._line(words, block.runs(" ".join(words)))
            case "json":
                self._json(block)
            case "yaml":
                self._settings(block)
            case language:
                assert language in ("", "text"), f"nothing is known about {language!r}"

    def _save(self, block: Block) -> Path:
        path = self.folder / (block.title or "block")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        sys.modules.pop(path.stem, None)  # of an earlier state of the file, or of another page
        return path

    def _python(self, block: Block) -> None:
        code = compile(block.text, block.title or "a block", "exec")
        if block.title:
            self._save(block)
        if not block.not_run and not block.title.startswith("make_"):  # those are run from the terminal
            exec(code, self._names)

    def _json(self, block: Block) -> None:
        records = [json.loads(line) for line in block.text.splitlines()]
        if any("messages" in record for record in records):
            path = self._save(block)
            if not block.title:
                path = path.rename(path.with_suffix(".jsonl"))
            games, _ = read_all([path])
            assert len(games) == len(records)

    def _settings(self, block: Block) -> None:
        assert yaml.safe_load(block.text), "no settings"
        load_yaml(RunConfig(), self._save(block))

    def _line(self, words: list[str], runs: bool) -> None:
        line = " ".join(words)
        if words[0] == "python" and (self.folder / words[1]).is_file():
            if runs:
                runpy.run_path(words[1], run_name="__main__")
        elif words[0] in ("torchrun", "accelerate"):  # of several processes: read, as they are tested elsewhere
            assert not runs, f"mark as not run: {line!r}"
            parse(words[words.index("archer") + 1 :])
        elif words[0] != "archer":
            assert not runs or line.startswith(OTHER_PROGRAMS), f"nothing is known about {line!r}"
        elif runs:
            done = self._command(*_expanded(words[1:]), typed=TYPED)
            assert done.code == 0, f"{line}\n{done.out}{done.err}"
        else:
            parse(words[1:])


def parse(arguments: list[str]) -> Asked:
    """A command as it would be understood; settings are checked too. SystemExit or ValueError where they are wrong."""
    asked: Asked = tyro.cli(Asked, args=arguments, prog="archer")
    if isinstance(asked, Train):
        if asked.config is None and asked.start_from is None:
            settings(asked)
        for assignment in asked.set:
            parse_assignment(assignment)
    return asked


def _expanded(words: list[str]) -> list[str]:
    """File names in place of patterns, as a shell gives them."""
    return [name for word in words for name in ((sorted(glob.glob(word)) or [word]) if "*" in word else [word])]


def provide(name: str, folder: Path, run: Path, modules: dict[str, str], logs: Path) -> None:
    """Put what a page's reader is supposed to have into their folder.

    ``runs/METHOD-SEED`` is the tiny run under another preset's name and another seed; any other ``runs/…`` a copy.
    """
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith("runs/"):
        shutil.copytree(run, path)
        preset, _, seed = path.name.rpartition("-")
        if seed.isdigit():
            config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
            config |= {"preset": preset, "seed": int(seed)}
            (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    elif path.suffix == ".jsonl":
        shutil.copy(logs, path)
    else:
        path.write_text(modules[name], encoding="utf-8")
