"""The shop's products and what customers want, generated once and always the same."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import log

GROUPS: dict[str, tuple[str, str]] = {
    "shoes": ("sneakers boots sandals slippers", "waterproof vegan padded slip-resistant wide"),
    "clothes": ("shirt jacket dress sweater", "cotton machine-washable long-sleeved warm slim"),
    "kitchen": ("kettle pan knife mug", "stainless dishwasher-safe non-stick light large"),
    "home": ("lamp rug curtain pillow", "handmade soft dimmable washable modern"),
    "electronics": ("headphones charger speaker keyboard", "wireless portable fast quiet compact"),
    "beauty": ("shampoo soap cream perfume", "organic cruelty-free scented gentle refillable"),
}
"""Types of products and what can be true of them, by group."""
BRANDS = ("Acme", "Borea", "Cirro", "Delta", "Elmwood", "Fjord", "Gala", "Halo")
COLOURS = ("black", "white", "red", "blue", "green")
SIZES = ("small", "medium", "large")
PRODUCTS = 288
INSTRUCTIONS = 12_000
"""As many as WebShop has (12,087), so that an agent which learns them by heart has not learned to shop."""
HELD_OUT = 500
"""Of the instructions; they are kept for evaluation, as many as WebShop tests on."""


@dataclass(frozen=True)
class Product:
    """Something to buy."""

    code: str
    title: str
    kind: str
    group: str
    attributes: tuple[str, ...]
    colours: tuple[str, ...]
    sizes: tuple[str, ...]
    price: int

    @property
    def options(self) -> tuple[str, ...]:
        """What can be chosen."""
        return (*self.colours, *self.sizes)


@dataclass(frozen=True)
class Goal:
    """What a customer wants."""

    kind: str
    group: str
    attributes: tuple[str, ...]
    colour: str
    size: str
    limit: int
    """Highest price."""

    @property
    def text(self) -> str:
        """The instruction."""
        return (
            f"I want {self.kind}, {' and '.join(self.attributes)}, colour {self.colour}, size {self.size}, "
            f"for at most {self.limit} dollars."
        )


@lru_cache(maxsize=1)
def products() -> dict[str, Product]:
    """Everything in the shop, by code."""
    chance = random.Random(20240607)
    found: dict[str, Product] = {}
    kinds = [(kind, group) for group, (kinds, _) in GROUPS.items() for kind in kinds.split()]
    for number in range(PRODUCTS):
        kind, group = kinds[number % len(kinds)]
        attributes = tuple(sorted(chance.sample(GROUPS[group][1].split(), 3)))
        shown = chance.sample(attributes, 2)  # the third stands on the page of features only
        code = f"P{number:03d}"
        found[code] = Product(
            code=code,
            title=f"{chance.choice(BRANDS)} {' '.join(shown)} {kind}",
            kind=kind,
            group=group,
            attributes=attributes,
            colours=tuple(sorted(chance.sample(COLOURS, 3))),
            sizes=tuple(sorted(chance.sample(SIZES, 2))),
            price=chance.randrange(10, 100, 5),
        )
    return found


@lru_cache(maxsize=1)
def goals() -> tuple[Goal, ...]:
    """All instructions; each can be met in full by at least one product."""
    chance = random.Random(20240608)
    found: dict[Goal, None] = {}
    shop = list(products().values())
    while len(found) < INSTRUCTIONS:
        product = chance.choice(shop)
        goal = Goal(
            kind=product.kind,
            group=product.group,
            attributes=tuple(sorted(chance.sample(product.attributes, 2))),
            colour=chance.choice(product.colours),
            size=chance.choice(product.sizes),
            limit=product.price + chance.choice((0, 5, 10, 20)),
        )
        found[goal] = None
    return tuple(found)


@lru_cache(maxsize=4096)
def search(text: str) -> tuple[str, ...]:
    """Codes of the products that fit a query, the best first: the sum of the rarity of shared words."""
    asked = set(text.lower().replace(",", " ").split())
    rarity = _rarity()
    scores = {code: sum(rarity[word] for word in asked & _words(product)) for code, product in products().items()}
    return tuple(sorted((code for code, score in scores.items() if score > 0), key=lambda code: (-scores[code], code)))


@lru_cache(maxsize=512)
def _words(product: Product) -> frozenset[str]:
    return frozenset(product.title.lower().split())


@lru_cache(maxsize=1)
def _rarity() -> dict[str, float]:
    """Of every word in a title: the logarithm of one in how many titles it stands (inverse document frequency)."""
    counts = Counter(word for product in products().values() for word in _words(product))
    return {word: log(PRODUCTS / count) for word, count in counts.items()}


def reward(goal: Goal, product: Product, chosen: frozenset[str]) -> float:
    """WebShop's reward (arXiv 2207.01206, section 3.2), from 0 to 1.

        (wanted attributes that hold + wanted options chosen + price within limit) / (attributes + options + 1) · r_type

    r_type is 1 for the right type, .5 for another of its group, .1 for a title that shares a wanted attribute, else 0.
    """
    if product.kind == goal.kind:
        right = 1.0
    elif product.group == goal.group:
        right = 0.5
    else:
        right = 0.1 if set(goal.attributes) & set(product.title.split()) else 0.0
    hits = len(set(goal.attributes) & set(product.attributes))
    hits += len({goal.colour, goal.size} & chosen & set(product.options))
    hits += product.price <= goal.limit
    return right * hits / (len(goal.attributes) + 3)
