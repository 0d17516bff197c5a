"""What questions are understood, and that everything else is not."""

from __future__ import annotations

import pytest

from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.grammar import LONGEST, AsksFor, Guesses, understand
from archer.envs.twenty_questions.players import SLIPS, guess

ATTRIBUTES = {
    "animal": ["Is it an animal?", "is it animal", "IT IS AN ANIMAL?", "Is the object an animal?", "Is this a mammal?"],
    "farm": ["Does it live on a farm?", "Would you find it at a farm?", "Is it a kind of farm animal?"],
    "worn": ["Could you wear it?", "Can it be worn?", "Is it something you wear?", "Do people wear this?"],
    "metal": ["Is the object made of metal?", "Is it made out of metal?", "Is it metallic?", "Is it usually metal?"],
    "kitchen": ["Would I find it in a kitchen?", "Is it in the kitchen?", "Can it be found in the kitchen?"],
    "edible": ["Can people eat it?", "Is it eaten?", "Could I eat it?", "Is it something to eat?", "Is it food?"],
    "wheels": ["Does it have wheels?", "Are there wheels on it?", "Has it got wheels?", "Is it something with wheels?"],
    "person_size": ["Is it bigger than a person?", "Is it larger than a human?", "Is it large?"],
    "hand": ["Can you hold it in your hand?", "Can it be held in one hand?", "Would it fit in a hand?"],
    "electric": ["Does it use electricity?", "Is it an electronic device?", "Does it need batteries?"],
    "outdoors": ["Is it used outside?", "Would you find it outdoors?", "Is it usually found outside?"],
    "sport": ["Is it used in sports?", "Do you use it for sports?", "Is it sporting equipment?"],
    "flies": ["Can it fly?", "Does it fly?", "Could the object fly?"],
    "green": ["Is it green?", "Is it green in colour?", "Is its color green?"],
    "alive": ["Is it alive?", "So, is it a living thing?", "Do you think it is alive?"],
}
GUESSES = {
    "dog": ["Is it a dog?", "Is it the dog?", "I think it is a dog", "It's a dog!", "My guess is dog.", "is it dogs"],
    "soccer ball": ["Is it a soccer ball?", "Could it be a soccer ball?", "Is the object a soccer ball?"],
    "scissors": ["Could it be scissors?", "Is it a pair of scissors?", "Are they scissors?"],
    "smartphone": ["Is it a smartphone?", "Is it a cell phone?", "Is it a phone?"],
    "knife": ["Is it a knife?", "Are they knives?"],
    "bus": ["Is it a bus?", "Is it buses?"],
    "strawberry": ["Is it strawberries?", "Would it be a strawberry?"],
    "orange": ["Is it an orange?"],
    "paper": ["Is it a piece of paper?", "Is it paper?"],
}
NEITHER = [
    "Is it not an animal?",
    "Isn't it an animal?",
    "Is it an animal or a plant?",
    "Is it an animal and is it big?",
    "Is it a dog or a cat?",
    "Is it a dog? Is it a cat?",
    "Is it a unicorn?",
    "What is it?",
    "dog",
    "Is it?",
    "Is",
    "",
    "Is it a bu?",
    "Is it a dog a cat",
    "Yes.",
]


@pytest.mark.parametrize(("attribute", "question"), [(a, q) for a, questions in ATTRIBUTES.items() for q in questions])
def test_wordings_of_an_attribute(attribute: str, question: str) -> None:
    assert understand(question) == AsksFor(attribute)


@pytest.mark.parametrize(("name", "question"), [(n, q) for n, questions in GUESSES.items() for q in questions])
def test_wordings_of_a_guess(name: str, question: str) -> None:
    assert understand(question) == Guesses(name)


@pytest.mark.parametrize("question", [*NEITHER, *SLIPS])
def test_what_is_not_understood(question: str) -> None:
    assert understand(question) is None


def test_every_published_name_can_be_guessed() -> None:
    facts = load_facts()
    for name, variants in facts.variants.items():
        assert understand(guess(name)) == Guesses(name)
        for variant in variants:
            for wording in ("Is it {}?", "Is it a {}?", "Could it be the {}?", "I think it's an {}."):
                assert understand(wording.format(variant)) == Guesses(name), wording.format(variant)


def test_every_question_of_the_players_is_understood() -> None:
    for attribute, questions in load_facts().questions.items():
        for question in questions:
            assert understand(question) == AsksFor(attribute), question


def test_a_question_without_end_is_not_read() -> None:
    assert understand("is it a " + "x" * LONGEST) is None
