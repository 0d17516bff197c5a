"""The world of Twenty Questions: objects, the names they answer to, and what is true of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

TEN = tuple(range(1, 100, 10))
"""Indices of the ten-object subset: football, dog, banana, truck, pants, computer, piano, chair, pen, scissors."""


@dataclass(frozen=True)
class Facts:
    """157 objects and 60 attributes."""

    names: tuple[str, ...]
    """Every object's name, in the published order."""
    variants: Mapping[str, tuple[str, ...]]
    """The names an object answers to, its own first."""
    questions: Mapping[str, tuple[str, ...]]
    """Ways to ask for each attribute, the plainest first."""
    true_of: Mapping[str, frozenset[str]]
    """The objects each attribute is true of."""


@lru_cache(maxsize=1)
def load_facts() -> Facts:
    """Read the tables shipped with the package."""
    folder = resources.files(__package__)
    objects = json.loads((folder / "objects.json").read_text(encoding="utf-8"))
    table = yaml.safe_load((folder / "attributes.yaml").read_text(encoding="utf-8"))
    names = tuple(entry["name"] for entry in objects)
    categories: dict[str, set[str]] = {}
    for entry in objects:
        categories.setdefault(entry["category"], set()).add(entry["name"])
    true_of: dict[str, frozenset[str]] = {}
    for attribute, row in table.items():
        members: set[str] = set()
        for item in row["of"]:
            if item.startswith("@"):
                members |= categories[item[1:]]
            elif item.startswith("-"):
                members.remove(item[1:])
            else:
                members.add(item)
        unknown = members - set(names)
        if unknown:
            raise ValueError(f"attributes.yaml: {attribute} names unknown objects {sorted(unknown)}")
        true_of[attribute] = frozenset(members)
    return Facts(
        names=names,
        variants={e["name"]: tuple(dict.fromkeys([e["name"], *e["variants"]])) for e in objects},
        questions={attribute: tuple(row["ask"]) for attribute, row in table.items()},
        true_of=true_of,
    )
