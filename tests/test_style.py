"""House rules that no linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_files_are_short_and_say_their_job() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 300, f"{path} is too long"
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say its job"
