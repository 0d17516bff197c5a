"""The world of Twenty Questions: objects, the names they answer to, and what is true of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

TEN = tuple(range(1, 100, 10))
"""Indices of the ten-object subset: football, dog, banana, truck, pants, computer, piano, chair, pen, scissors."""


@dataclass(frozen=True)
class Facts:
    """157 objects, and what is true of them."""

    names: tuple[str, ...]
    """Every object's name, in the published order."""
    variants: Mapping[str, tuple[str, ...]]
    """The names an object answers to, its own first, as published."""
    questions: Mapping[str, tuple[str, ...]]
    """Questions a scripted player asks, by attribute, the plainest first; some attributes have none."""
    wordings: Mapping[str, tuple[str, ...]]
    """Every wording that is understood, by attribute; those without a verb leave out ``is it``."""
    true_of: Mapping[str, frozenset[str]]
    """The objects each attribute is true of."""
    synonyms: Mapping[str, Any]
    """The tables of ``synonyms.yaml``."""


@lru_cache(maxsize=1)
def load_facts() -> Facts:
    """Read the tables shipped with the package; ValueError where a table names what does not exist."""
    folder = resources.files(__package__)
    objects = json.loads((folder / "objects.json").read_text(encoding="utf-8"))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser, where there is one, is ten times as fast
    table = yaml.load((folder / "attributes.yaml").read_text(encoding="utf-8"), loader)
    synonyms = yaml.load((folder / "synonyms.yaml").read_text(encoding="utf-8"), loader)
    names = tuple(entry["name"] for entry in objects)
    categories: dict[str, set[str]] = {}
    for entry in objects:
        categories.setdefault(entry["category"], set()).add(entry["name"])
    _must_exist([*synonyms["names"], *synonyms["bare"], *synonyms["the"]], names, "synonyms.yaml")
    return Facts(
        names=names,
        variants={e["name"]: tuple(dict.fromkeys([e["name"], *e["variants"]])) for e in objects},
        questions={attribute: tuple(row["ask"]) for attribute, row in table.items() if "ask" in row},
        wordings={attribute: (*row.get("ask", ()), *row.get("also", ())) for attribute, row in table.items()},
        true_of={attribute: _members(attribute, row["of"], names, categories) for attribute, row in table.items()},
        synonyms=synonyms,
    )


def _members(
    attribute: str, items: Sequence[str], names: tuple[str, ...], categories: Mapping[str, set[str]]
) -> frozenset[str]:
    members: set[str] = set()
    for item in items:
        if item.startswith("@"):
            members |= categories[item[1:]]
        elif item.startswith("-"):
            members.remove(item[1:])
        else:
            members.add(item)
    _must_exist(members, names, f"attributes.yaml: {attribute}")
    return frozenset(members)


def _must_exist(mentioned: Sequence[str] | set[str], names: tuple[str, ...], where: str) -> None:
    unknown = set(mentioned) - set(names)
    if unknown:
        raise ValueError(f"{where} names unknown objects {sorted(unknown)}")
