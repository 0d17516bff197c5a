"""91 cities and what is true of each, and how texts about them are read."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

_WORDS = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class City:
    """A city; positions in degrees, population of the city proper (GeoNames)."""

    name: str
    also: tuple[str, ...]
    country: str
    continent: str
    region: str
    capital: bool
    latitude: float
    longitude: float
    population: int
    currency: str
    coast: bool
    river: str
    climate: str
    language: str
    religion: str
    landmark: str
    dish: str
    known_for: str

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called."""
        return (self.name, *self.also)


@lru_cache(maxsize=1)
def load_cities() -> Mapping[str, City]:
    """Every city by its name, in the published order."""
    rows = json.loads((resources.files(__package__) / "cities.json").read_text(encoding="utf-8"))
    return {row["name"]: City(**{**row, "also": tuple(row["also"])}) for row in rows}


@lru_cache(maxsize=65_536)
def words(text: str) -> tuple[str, ...]:
    """Words in small letters, without accents and possessive endings."""
    plain = unicodedata.normalize("NFD", text.lower().replace("’", "'").replace("'s ", " "))
    return tuple(_WORDS.findall("".join(c for c in plain if not unicodedata.combining(c))))


def holds(text: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    """Whether the words of ``phrase`` stand together in ``text``."""
    size = len(phrase)
    return any(text[start : start + size] == phrase for start in range(len(text) - size + 1))


def names_city(text: str, name: str) -> bool:
    """Whether a text holds the name of a city, in any of its spellings."""
    return any(holds(words(text), words(alias)) for alias in load_cities()[name].names)


def mentioned(text: tuple[str, ...]) -> list[str]:
    """The cities that are named in a text; not those whose name is part of another's there."""
    found: dict[str, tuple[str, ...]] = {}
    for city in load_cities().values():
        named = [words(name) for name in city.names if holds(text, words(name))]
        if named:
            found[city.name] = max(named, key=len)
    return [
        name
        for name, phrase in found.items()
        if not any(other != phrase and holds(other, phrase) for other in found.values())
    ]
