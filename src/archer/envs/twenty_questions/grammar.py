"""Understanding questions: any usual wording of a known attribute or object, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from archer.envs.twenty_questions.facts import Facts, load_facts

LONGEST = 200
"""Characters beyond which a question is not read."""

_WORDS = re.compile(r"[a-z0-9]+")
_DROPPED = frozenset(
    "a an the any some usually typically generally normally commonly often mostly considered ever also perhaps maybe "
    "please probably actually primarily kind type sort of".split()
)
_THING = frozenset("this that they these those".split())
_PEOPLE = frozenset("people person persons humans human i we one someone somebody".split())
_MODAL = frozenset("can could would does do will might may should did".split())
_NUMBER = {"are": "is", "was": "is", "were": "is", "colour": "color", "coloured": "colored", "larger": "bigger"}
_OPENINGS = (
    ("do you think it is", "is it"),
    ("you think it is", "is it"),
    ("you guess it is", "is it"),
    ("do it be", "is it"),
    ("do it is", "is it"),
    ("it is", "is it"),
    ("my guess is", "is it"),
    ("you guess", "is it"),
    ("is it something you do", "do you"),
    ("is it something that you do", "do you"),
    ("is it something you", "do you"),
    ("is it something that is", "is it"),
    ("is it something that", "do it"),
    ("is it something", "is it"),
    ("is answer", "is it"),
    ("is object", "is it"),
    ("is item", "is it"),
    ("is thing", "is it"),
    ("do object", "do it"),
    ("do item", "do it"),
    ("do thing", "do it"),
    ("object is", "is it"),
)


@dataclass(frozen=True)
class AsksFor:
    """A question about an attribute."""

    attribute: str


@dataclass(frozen=True)
class Guesses:
    """A direct guess of an object."""

    name: str


Meaning = AsksFor | Guesses | None


def normalise(question: str) -> str:
    """A question's words in one canonical wording: articles and fillers gone, subjects and modal verbs made equal."""
    words: list[str] = []
    for word in _WORDS.findall(question[:LONGEST].lower().replace("'s ", " is ").replace("it's", "it is")):
        if word in _DROPPED:
            continue
        word = _NUMBER.get(word, word)
        word = "it" if word in _THING else "you" if word in _PEOPLE else "do" if word in _MODAL else word
        if word in ("object", "item", "thing") and words[-1:] == ["it"]:  # "this object" is one subject, not two
            continue
        words.append(word)
    text = " ".join(words)
    for opening, plain in _OPENINGS:
        if text == opening or text.startswith(opening + " "):
            text = plain + text[len(opening) :]
            break
    if text.startswith("do you ") and not text.endswith(" it") and " it " not in text:
        text += " it"  # "is it something you wear?" leaves its object out
    return text


@lru_cache(maxsize=1)
def _phrases() -> tuple[dict[str, str], dict[str, str]]:
    """Canonical wording -> attribute, and canonical name -> object."""
    facts: Facts = load_facts()
    attributes: dict[str, str] = {}
    for attribute, questions in facts.questions.items():
        for question in questions:
            key = normalise(question)
            if attributes.setdefault(key, attribute) != attribute:
                raise ValueError(f"attributes.yaml: {question!r} asks for both {attributes[key]} and {attribute}")
    names: dict[str, str] = {}
    for name, variants in facts.variants.items():
        for variant in variants:
            key = normalise(variant)
            for form in (key, key + "s", key.removesuffix("s")):
                names.setdefault(form, name)
    for name in facts.names:  # an exact name beats another object's plural
        names[normalise(name)] = name
    return attributes, names


@lru_cache(maxsize=65_536)
def understand(question: str) -> Meaning:
    """What a question asks, or None where it cannot be understood."""
    if len(question) > LONGEST:
        return None
    attributes, names = _phrases()
    text = normalise(question)
    if text in attributes:
        return AsksFor(attributes[text])
    guess = names.get(text.removeprefix("is it "))
    return None if guess is None else Guesses(guess)
