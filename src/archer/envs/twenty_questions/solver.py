"""The best next question: a search over sets of objects that are still possible, kept as bit masks."""

from __future__ import annotations

from functools import cache, lru_cache

from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.grammar import AsksFor, Guesses, Meaning

EXACT_UP_TO = 10
"""Up to this many candidates every question and every guess is tried, so the rest of the game is solved exactly."""
WIDTH = 3
"""With more candidates, as many of the most even splits are followed."""


@lru_cache(maxsize=1)
def attribute_masks() -> dict[str, int]:
    """The objects each askable attribute is true of; bit i stands for object i in the published order."""
    facts = load_facts()
    return {a: mask_of(facts.true_of[a]) for a in facts.questions}


def mask_of(names: frozenset[str] | tuple[str, ...]) -> int:
    """The bit mask of a set of objects."""
    wanted = set(names)
    return sum(1 << index for index, name in enumerate(load_facts().names) if name in wanted)


def members_of(meaning: Meaning) -> int | None:
    """The bit mask of the objects for which a question is answered with yes; None where it cannot be understood."""
    match meaning:
        case AsksFor(attribute):
            return attribute_masks()[attribute]
        case Guesses(name):
            return mask_of((name,))
    return None


def names_in(mask: int) -> list[str]:
    """The objects of a bit mask, in the published order."""
    return [name for index, name in enumerate(load_facts().names) if mask >> index & 1]


@cache
def even_cost(count: int) -> int:
    """Cost of ``count`` candidates if every set could be split in halves: a lower bound of ``best_question``'s."""
    if count <= 1:
        return 0
    half = count // 2
    # A split costs every candidate a question; a wrong guess costs all but the one it hits.
    return min(count + even_cost(half) + even_cost(count - half), count - 1 + even_cost(count - 1))


@lru_cache(maxsize=100_000)
def best_question(candidates: int) -> tuple[int, str, str]:
    """What to say when ``candidates`` (a bit mask, not 0) are still possible.

    Returns the cost (questions that do not win, summed over the candidates), the attribute to ask for or an empty
    string, and the object to guess or an empty string.
    """
    count = candidates.bit_count()
    if count == 1:
        return 0, "", names_in(candidates)[0]
    splits = _splits(candidates, count)
    exact = count <= EXACT_UP_TO
    cost, attribute, guess = 1 << 60, "", ""
    for bound, yes, name in splits if exact else splits[:WIDTH]:
        if count + bound >= cost:
            break
        found = count + best_question(yes)[0] + best_question(candidates & ~yes)[0]
        if found < cost:
            cost, attribute = found, name
    if (exact or not splits) and count - 1 + even_cost(count - 1) < cost:
        for name in names_in(candidates):
            found = count - 1 + best_question(candidates & ~mask_of((name,)))[0]
            if found < cost:
                cost, attribute, guess = found, "", name
    return cost, attribute, guess


def _splits(candidates: int, count: int) -> list[tuple[int, int, str]]:
    """Attributes that tell candidates apart, the most even split first: (lower bound, yes mask, attribute)."""
    found: dict[int, tuple[int, int, str]] = {}
    for name, members in attribute_masks().items():
        yes = candidates & members
        size = yes.bit_count()
        if 0 < size < count and yes not in found and candidates & ~yes not in found:
            found[yes] = even_cost(size) + even_cost(count - size), yes, name
    return sorted(found.values(), key=lambda split: split[0])
