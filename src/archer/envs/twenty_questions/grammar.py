"""Understanding questions: any usual wording of a known attribute or object, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from archer.envs.twenty_questions.facts import load_facts

LONGEST = 200
"""Characters beyond which a question is not read, so that no utterance can cost more than a look-up."""

_WORDS = re.compile(r"[a-z0-9]+")
_KIND_OF = re.compile(r"\b(?:kinds?|types?|sorts?|pieces?) of\b", re.IGNORECASE)
_MADE_OF = re.compile(r"\bmade (?:out of|from|with|up of)\b", re.IGNORECASE)
_PLACE = re.compile(r"^is it (?:(?:seen|kept|stored|located) )?in ")
_SUBJECTS = ("object", "item", "thing", "answer", "word")
# Canonical beginnings -> plain ones, tried in this order; the words are already normalised one by one.
_OPENINGS = (
    ("do you say it is", "is it"),
    ("do you think it is", "is it"),
    ("you think it is", "is it"),
    ("you believe it is", "is it"),
    ("you guess it is", "is it"),
    ("you think it do", "do it"),
    ("guess is", "is it"),
    ("you guess", "is it"),
    ("do it is", "is it"),
    ("is it something you do", "do you"),
    ("is it something it you do", "do you"),
    ("is it something it you", "do you"),
    ("is it something you", "do you"),
    ("is it something it is", "is it"),
    ("is it something with", "do it have"),
    ("is it something it do", "do it"),
    ("is it something it", "do it"),
    ("is it something to", "do you"),
    ("is it something made", "is it made"),
    ("is it something", "is it"),
    ("is there", "do it have"),
    ("do there is", "do it have"),
    ("it do", "do it"),
    ("it is", "is it"),
    ("have it got", "do it have"),
    ("have it", "do it have"),
    ("you can", "do you"),
    ("you do", "do you"),
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


@lru_cache(maxsize=1)
def _word_table() -> dict[str, str]:
    """What single words are replaced by; an empty string where they are dropped."""
    synonyms = load_facts().synonyms
    table: dict[str, str] = dict(synonyms["words"])
    table.update(dict.fromkeys(synonyms["fillers"], ""))
    table.update(dict.fromkeys(synonyms["pronouns"], "it"))
    table.update(dict.fromkeys(synonyms["modals"], "do"))
    return table


def words(text: str) -> list[str]:
    """The lower-case words of a text, contractions of ``is`` opened."""
    return _WORDS.findall(text.lower().replace("'s ", " is ").replace("’s ", " is "))


def _plainer(text: str) -> str:
    """The text with idioms of several words put plainly."""
    return _MADE_OF.sub("made of", _KIND_OF.sub(" ", text))


def normalise(question: str) -> str:
    """A question's words in one canonical wording.

    Articles and fillers are gone, subjects and modal verbs made equal, and what one does to the object is said in
    the passive: ``Could people eat it?`` and ``Is this object eaten?`` both become ``is it eaten``.
    """
    table, verbs, people = _word_table(), load_facts().synonyms["verbs"], load_facts().synonyms["people"]
    kept: list[str] = []
    for spelled in words(_plainer(question)):
        word = table.get(spelled, spelled)
        if word in _SUBJECTS:
            # "this object" is one subject, not two; "is the object" has it as the subject, "common object" has not
            if kept[-1:] == ["it"]:
                continue
            if not kept or kept in (["is"], ["do"], ["have"]):
                word = "it"
        elif word in people and (not kept or kept[-1] in ("do", "something", "it", "by")):
            word = "you"
        if word:
            kept.append(word)
    text = " ".join(kept)
    for opening, plain in _OPENINGS:
        if text == opening or text.startswith(opening + " "):
            text = plain + text[len(opening) :]
            break
    if text.startswith("do you "):
        verb, _, rest = text.removeprefix("do you ").partition(" ")
        if verb in verbs and (rest in ("", "it") or rest.startswith("it ")):
            text = f"is it {verbs[verb]} {rest.removeprefix('it').strip()}".rstrip()
    return _PLACE.sub("is it found in ", text)


@lru_cache(maxsize=1)
def _phrases() -> tuple[dict[str, str], dict[str, str]]:
    """Canonical wording -> attribute, and canonical name -> object."""
    facts = load_facts()
    attributes: dict[str, str] = {}
    for attribute, wordings in facts.wordings.items():
        for wording in wordings:
            key = normalise(wording)
            if not key.startswith(("is ", "do ")):
                key = "is it " + key
            if attributes.setdefault(key, attribute) != attribute:
                raise ValueError(f"attributes.yaml: {wording!r} asks for both {attributes[key]} and {attribute}")
    names: dict[str, str] = {}
    for name, variants in facts.variants.items():
        for variant in (*variants, *facts.synonyms["names"].get(name, ())):
            for form in (variant, _plural(variant)):
                names.setdefault(normalise(form), name)
    names |= {normalise(name): name for name in facts.names}  # an exact name beats another object's plural
    for name in names:
        if f"is it {name}" in attributes:
            raise ValueError(f"attributes.yaml: {attributes[f'is it {name}']} is worded like a guess of {names[name]}")
    return attributes, names


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith("fe"):
        return noun[:-2] + "ves"
    if noun.endswith("f"):
        return noun[:-1] + "ves"
    return noun + ("es" if noun.endswith("to") else "s")


def understand(question: str) -> Meaning:
    """What a question asks, or None where it cannot be understood: a negation, two questions in one, anything else."""
    return _understand(question) if len(question) <= LONGEST else None


@lru_cache(maxsize=65_536)
def _understand(question: str) -> Meaning:
    attributes, names = _phrases()
    text = normalise(question)
    attribute = attributes.get(text)
    if attribute is not None:
        return AsksFor(attribute)
    name = names.get(text.removeprefix("is it ")) if text.startswith("is it ") else None
    return None if name is None else Guesses(name)
