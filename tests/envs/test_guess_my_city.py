"""Guess My City: facts, questions, the two win rules."""

from __future__ import annotations

import pytest

from archer.envs.guess_my_city.env import GuessMyCity
from archer.envs.guess_my_city.facts import holds, load_cities, mentioned, words
from archer.envs.guess_my_city.players import IDLE, QUESTIONS, guess
from archer.envs.guess_my_city.questions import NO, SECRET, UNKNOWN, YES, answer_to, guess_of


def test_there_are_91_cities_and_no_two_are_alike() -> None:
    cities = load_cities()
    assert len(cities) == 91 and sum(city.capital for city in cities.values()) == 33
    answers = {tuple(answer_to(question, name) for question in QUESTIONS) for name in cities}
    assert len(answers) == 91


def test_no_answer_holds_the_name_of_the_city() -> None:
    asked = [*QUESTIONS, *IDLE, "What country are you from?", "What is a famous landmark?", "Which region is it in?",
             "What is the name of your city?", "Name the river.", "Is it Paris or Rome?"]  # fmt: skip
    for name, city in load_cities().items():
        for question in asked:
            told = words(answer_to(question, name))
            assert not any(holds(told, words(alias)) for alias in city.names), (name, question, told)
    assert answer_to("What country are you from?", "Singapore") == SECRET


@pytest.mark.parametrize(
    ("question", "city", "answer"),
    [
        ("Is your city located in Asia?", "Seoul", YES),
        ("Is the city you are from in South America?", "Lima", YES),
        ("Is the city you are from in North America?", "Lima", NO),
        ("Are you from a coastal city?", "Madrid", NO),
        ("Is your city on the coast or on a river?", "Madrid", YES),
        ("Is it in Asia and on the coast?", "Beijing", NO),
        ("Does your city lie on the Danube?", "Budapest", YES),
        ("Is it located along the Indus River?", "Lahore", NO),
        ("Is it in the northern part of China?", "Beijing", UNKNOWN),
        ("What continent are you from?", "Cairo", "Africa."),
        ("Can you tell me what language is spoken there?", "Medan", "We speak Indonesian."),
        ("What's the traditional food?", "Lima", "Try the ceviche."),
        ("Does it have more than 10 million people?", "Shanghai", YES),
        ("Does it have less than 10 million people?", "Shanghai", NO),
        ("Is it the capital of Brazil?", "Brasilia", YES),
        ("Is it not in Asia?", "Paris", UNKNOWN),
        ("Is it São Paulo?", "Lima", NO),
        ("Is it Delhi or Paris?", "Lima", SECRET),
        ("Do you like it?", "Lima", UNKNOWN),
        ("", "Lima", UNKNOWN),
        ("Is it in Asia? " * 100, "Seoul", UNKNOWN),
    ],
)
def test_questions_are_understood(question: str, city: str, answer: str) -> None:
    assert answer_to(question, city) == answer


def test_a_guess_names_one_city() -> None:
    assert guess_of("Is it Buenos Aires?") == "Buenos Aires"
    assert guess_of("Mumbai") == "Bombay"
    assert guess_of("Is it Paris or Rome?") is None
    assert guess_of("Is it near Paris?") is None
    assert guess_of("It is not Paris.") is None
    assert mentioned(words("Is it New Delhi?")) == ["Delhi"]
    assert all(guess_of(guess(name)) == name for name in load_cities())


def test_a_list_of_all_cities_wins_by_the_original_rule_only() -> None:
    everything = ", ".join(load_cities())
    for rule, won in (("guess", False), ("substring", True)):
        env = GuessMyCity(win_rule=rule)
        env.reset(seed=3)
        assert env.step(everything)[2] is won
    with pytest.raises(ValueError, match="win_rule"):
        GuessMyCity(win_rule="first")
    with pytest.raises(ValueError, match="not one of the 91"):
        GuessMyCity().reset(options={"target": "Atlantis"})
