"""Find the object that ``package.module:Name`` names, with messages that help when there is none."""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any


def load(path: str, setting: str) -> Any:
    """The object ``package.module:Name`` names; the working directory is searched too.

    ``setting`` is what the messages call the path. Raises ValueError where the path has another form, the module
    cannot be imported, or it has no such name.
    """
    module_name, colon, attribute = path.partition(":")
    if not (colon and module_name and attribute):
        raise ValueError(f"{setting}: expected 'package.module:Name', got {path!r}")
    if os.getcwd() not in sys.path:  # a file beside the user's shell is what `module:Name` usually means
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{setting}: cannot import module {module_name!r}: {error}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ValueError(
            f"{setting}: module {module_name!r} has no {attribute!r}{closest(attribute, public)}"
        ) from None


def closest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'X'?`` where a known name is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
