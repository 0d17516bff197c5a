"""Packages that only some need."""

from __future__ import annotations

import importlib
from typing import Any


def need(package: str, extra: str) -> Any:
    """The package, or a ValueError that says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(f"{package} is not installed: pip install -e '.[{extra}]' ({error})") from error
