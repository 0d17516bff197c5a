"""House rules that no linter checks."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_files_are_short_and_say_their_job() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 300, f"{path} is too long"
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say its job"


def test_what_is_imported_as_a_file_is_read_is_a_declared_dependency() -> None:
    """Extras are imported where they are needed, inside functions; so are the three files in Numba's language."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in project["dependencies"]}
    providers, known = packages_distributions(), {"archer", "numba", "llvmlite", *sys.stdlib_module_names}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {name.partition(".")[0] for name in names} - known:
                found = {provider.lower() for provider in providers[name]}
                assert found & declared, f"{path} imports {name}, which no line of dependencies in pyproject.toml names"
