"""Buyers: one who compares what was found, and one who takes the first that looks right."""

from __future__ import annotations

import random
import re

from archer.types import Observation

_WANTS = re.compile(r"I want (\w+), (\S+) and (\S+), colour (\w+), size (\w+), for at most (\d+) dollars")
_FOUND = re.compile(r"\[(P\d+)\] (\S+) (\S+) (\S+) (\S+) \$(\d+)")


class Buyer:
    """Searches for what is wanted, looks through the results, chooses the options and buys.

    chance: where it comes from is a hasty buyer: searches for a part of it, takes the first product or any, forgets an
    option.
    """

    def __init__(self, chance: random.Random | None) -> None:
        self._chance = chance
        self._kind, self._attributes = "", ("", "")
        self._options: list[str] = []
        self._limit = 0
        self._stage = "search"

    def __call__(self, observation: Observation) -> str:
        page = str(observation)
        if self._stage == "search":
            return self._search(page)
        if self._stage == "results":
            return self._choose(page)
        if page.startswith("Invalid"):
            return "click[Buy Now]"
        while self._options:
            option = self._options.pop()
            if f"[{option}]" in page and not self._slips(0.4):
                return f"click[{option}]"
        return "click[Buy Now]"

    def _slips(self, share: float) -> bool:
        return self._chance is not None and self._chance.random() < share

    def _search(self, page: str) -> str:
        wanted = _WANTS.search(page)
        if wanted is not None:
            self._kind, self._attributes = wanted[1], (wanted[2], wanted[3])
            self._options, self._limit = [wanted[5], wanted[4]], int(wanted[6])
        self._stage = "results"
        words = [self._kind, *(word for word in self._attributes if not self._slips(0.4))]
        return f"search[{' '.join(words)}]"

    def _choose(self, page: str) -> str:
        found = _FOUND.findall(page)
        if not found:
            self._stage = "search"
            return "click[Back to Search]"
        if self._slips(0.5):
            self._stage = "product"
            assert self._chance is not None, "only the hasty one slips"
            return f"click[{self._chance.choice(found)[0]}]"

        def fits(row: tuple[str, ...]) -> tuple[int, int]:
            _, _, first, second, kind, price = row
            hits = len({first, second} & set(self._attributes)) + (int(price) <= self._limit)
            return int(kind == self._kind), hits

        best = max(found, key=fits)
        self._stage = "product"
        return f"click[{best[0]}]"
