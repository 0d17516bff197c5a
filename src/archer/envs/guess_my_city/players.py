"""Scripted players: one that asks what tells most cities apart, and one that asks as it comes to mind."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache

from archer.envs.guess_my_city.facts import load_cities
from archer.envs.guess_my_city.questions import answer_to
from archer.types import Observation

QUESTIONS = (
    "Is it in Asia?", "Is it in Europe?", "Is it in South America?", "Is it in North America?", "Is it in Africa?",
    "Is it in East Asia?", "Is it in Southeast Asia?", "Is it in South Asia?", "Is it in the Middle East?",
    "Is it in the northern hemisphere?", "Is it close to the equator?", "Is it on an island?", "Is it on the coast?",
    "Is it on a river?", "Is it a capital?", "Is it high in the mountains?", "Is the climate tropical?",
    "Do more than 3 million people live there?", "Do more than 5 million people live there?",
    "Do more than 9 million people live there?",
    "Is the climate continental?", "Is it in a desert?", "Does it snow there?", "Is it humid?", "Is it in China?",
    "Is it in Indonesia?", "Is it in India?", "Is it in Brazil?", "Is it in Japan?", "Is it in South Korea?",
    "Is it in the USA?", "Is it in Pakistan?", "Is it in Turkey?", "Is it in Colombia?", "Do people speak Spanish?",
    "Do people speak English?", "Do people speak Arabic?", "Do people speak Chinese?", "Do people speak Javanese?",
    "Are most people Muslim?", "Are most people Christian?", "Are most people Buddhist?", "Are most people Hindu?",
    "Is it known for technology?", "Is it known for history?", "Is it known for trade?", "Is it known for textiles?",
    "Is it an industrial city?", "Is it known for its food?",
    "What continent is it in?", "What language do people speak?", "What is the climate like?",
    "What is the main religion?", "What is it known for?", "What is the local dish?", "How many people live there?",
    "Which river is there?",
)  # fmt: skip
"""What scripted players ask; the last ones are for a fact and not for yes or no."""
IDLE = ("Is it nice?", "Do you like it?", "Is it far from here?", "What is your name?")
"""What the table has no answer to."""


def guess(name: str) -> str:
    """The plainest question that guesses a city."""
    return f"Is it {name}?"


@lru_cache(maxsize=1)
def _answers() -> dict[str, dict[str, str]]:
    """Answer to every question for every city."""
    return {question: {name: answer_to(question, name) for name in load_cities()} for question in QUESTIONS}


def consistent(cities: tuple[str, ...], question: str, answer: Observation) -> tuple[str, ...]:
    """The cities of which a resident would have answered like that."""
    return tuple(name for name in cities if answer_to(question, name) == answer)


@lru_cache(maxsize=50_000)
def best_question(cities: tuple[str, ...]) -> str:
    """What leaves the fewest cities to be expected; a guess where that is as good."""
    if len(cities) <= 2:
        return guess(cities[0])

    def left(question: str) -> int:
        told = _answers()[question]
        return sum(count**2 for count in Counter(told[name] for name in cities).values())

    question = min(QUESTIONS, key=left)
    return question if left(question) < len(cities) ** 2 else guess(cities[0])


class Informed:
    """Asks ``best_question`` of the cities that are still possible."""

    def __init__(self) -> None:
        self._cities = tuple(load_cities())
        self._asked = ""

    def __call__(self, observation: Observation) -> str:
        if self._asked:
            self._cities = consistent(self._cities, self._asked, observation) or tuple(load_cities())
        self._asked = best_question(self._cities)
        return self._asked


class Casual:
    """Asks as it comes to mind, heeds most answers, guesses now and then, asks again what it has forgotten."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._cities = tuple(load_cities())
        self._asked: list[str] = []

    def __call__(self, observation: Observation) -> str:
        chance = self._chance
        if self._asked and chance.random() < 0.9:
            self._cities = consistent(self._cities, self._asked[-1], observation) or self._cities
        self._asked.append(self._choose())
        return self._asked[-1]

    def _choose(self) -> str:
        chance = self._chance
        if self._asked and chance.random() < 0.06:
            return chance.choice(self._asked)
        if chance.random() < 0.03:
            return chance.choice(IDLE)
        if len(self._cities) <= 4 or chance.random() < 0.15:
            return guess(chance.choice(self._cities))
        if chance.random() < 0.35:
            return chance.choice(QUESTIONS)
        ideas = chance.sample(QUESTIONS, 6)
        return min(ideas, key=lambda q: max(Counter(_answers()[q][name] for name in self._cities).values()))
