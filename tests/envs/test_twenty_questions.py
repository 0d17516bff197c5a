"""Twenty Questions: the facts, the rules, and how its players do."""

from __future__ import annotations

import statistics

import pytest

from archer.envs.base import play_scripted
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.twenty_questions.facts import load_facts
from archer.envs.twenty_questions.oracle import TableOracle, read_answer
from archer.envs.twenty_questions.players import SLIPS, guess

TRUE = """
dog: animal alive natural carnivore noise soft house pet | cat: feline animal pet | cow: farm heavy animal
horse: farm ridden | tiger: stripes feline wild carnivore | elephant: heavy person_size wild | sheep: soft farm white
apple: fruit edible round natural red | banana: fruit yellow long tropical | carrot: edible root long plant
tree: plant alive outdoors wood | cactus: thorns sharp green alive | ocean: salty water biggest | lake: water natural
car: vehicle wheels engine metal heavy | airplane: flies crowd vehicle | ship: floats car_size | scooter: two_wheels
shirt: clothing worn fabric soft | hat: head worn clothing | socks: pairs feet daily | boots: feet footwear pairs
computer: electric buttons screen office | television: electric screen noise | refrigerator: kitchen electric heavy
piano: music keys strings wood heavy | guitar: strings music wood | trumpet: blown metal brass | drum: round music
chair: furniture wood sit | bed: sleep furniture soft | pen: writing pocket plastic office | scissors: cuts sharp
key: metal pocket | knife: sharp metal handle kitchen cuts | cup: liquid kitchen hand | pan: heated metal handle round
ring: jewelry worn round expensive | watch: time wrist electric | necklace: neck jewelry | helmet: head sport protects
hammer: tool hit handle metal | drill: tool electric noise | shovel: digging garden outdoors | kite: toy flies
meteorite: space stone natural heavy | painting: art expensive flat | toothbrush: bathroom daily handle
basketball: ball sport round team | tennis racket: sport strings handle hit
"""
FALSE = """
dog: plant edible made electric vehicle | apple: animal made metal furniture | rock: alive made edible soft
ocean: alive made hand | car: animal edible hand natural | shirt: metal edible heavy | piano: hand pocket worn
chair: animal electric worn | computer: alive edible natural worn | knife: soft alive worn | pen: heavy alive electric
ring: clothing heavy | tree: animal made electric | scissors: soft edible | banana: round metal | truck: flies alive
lake: salty | flute: electric edible | bed: hand electric | kite: heavy metal | potato: fruit
"""


def facts_of(table: str) -> list[tuple[str, str]]:
    entries = [entry.split(":") for line in table.strip().splitlines() for entry in line.split("|")]
    return [(name.strip(), a) for name, attributes in entries for a in attributes.split()]


def test_no_two_objects_look_alike_to_the_players() -> None:
    facts = load_facts()
    signatures = {tuple(name in facts.true_of[a] for a in facts.questions) for name in facts.names}
    assert len(signatures) == len(facts.names) == 157


def test_every_attribute_tells_objects_apart() -> None:
    assert all(0 < len(members) < 157 for members in load_facts().true_of.values())


@pytest.mark.parametrize(("name", "attribute"), facts_of(TRUE))
def test_what_is_true(name: str, attribute: str) -> None:
    assert name in load_facts().true_of[attribute]


@pytest.mark.parametrize(("name", "attribute"), facts_of(FALSE))
def test_what_is_false(name: str, attribute: str) -> None:
    assert name not in load_facts().true_of[attribute]


def test_the_ten_objects_are_the_published_ones() -> None:
    expected = ["football", "dog", "banana", "truck", "pants", "computer", "piano", "chair", "pen", "scissors"]
    assert list(TwentyQuestions("ten").objects) == expected


def test_a_game_by_hand() -> None:
    env = TwentyQuestions(max_turns=4)
    assert env.reset(options={"target": "dog"}) == ("Questions:", {})
    lost = {"success": False, "target": "dog"}
    assert env.step("Is it an animal?") == ("Yes.", -1.0, False, False, lost)
    assert env.step("Is it a cat?") == ("No.", -1.0, False, False, lost)
    assert env.step("What is it?") == ("Invalid Question.", -1.0, False, False, lost)
    # the winning question costs nothing, even the last one allowed, and ends the game by the task's own rule
    assert env.step("Is it a dog?") == ("Yes.", 0.0, True, False, {"success": True, "target": "dog"})


def test_every_object_can_be_won_by_each_of_its_names() -> None:
    env = TwentyQuestions()
    for name, variants in load_facts().variants.items():
        for question in [guess(name), *(f"Is it a {variant}?" for variant in variants)]:
            env.reset(options={"target": name})
            assert env.step(question)[1:3] == (0.0, True), question


def test_the_original_rule_makes_seven_objects_unwinnable() -> None:
    env = TwentyQuestions(win_rule="last-word")
    lost = []
    for name, variants in load_facts().variants.items():
        env.reset(options={"target": name})
        if not any(env.step(f"Is it a {variant}?")[2] for variant in variants):
            lost.append(name)
    assert lost == [
        "soccer ball", "golf ball", "tennis ball", "tennis racket", "baseball bat", "watering can", "lawn mower",
    ]  # fmt: skip


def test_the_original_rule_wants_a_yes() -> None:
    env = TwentyQuestions(win_rule="last-word")
    env.reset(options={"target": "dog"})
    assert not env.step("Is it anything but a dog?")[2]
    assert env.step("Is it a dog?")[2]


def test_a_target_must_be_one_of_the_objects() -> None:
    with pytest.raises(ValueError, match="'cat' is not one of the 10"):
        TwentyQuestions("ten").reset(options={"target": "cat"})


@pytest.mark.parametrize(("objects", "least"), [("ten", -2.8), ("all", -6.9)])
def test_reference_return_is_what_the_reference_plays(objects: str, least: float) -> None:
    env = TwentyQuestions(objects)
    games = []
    for name in env.objects:
        one = TwentyQuestions([name])
        games.append(play_scripted(one, env.reference(0), seed=0))
    assert all(game.terminated for game in games)
    assert env.reference_return() == pytest.approx(statistics.mean(game.return_ for game in games))
    # ten objects: 10 questions, two halves of 5 (9 each: 5 + a split of 2 and 3) make 28 / 10, the optimum
    assert env.reference_return() >= least - 1e-9


def test_reference_return_obeys_the_rules_of_the_game() -> None:
    assert TwentyQuestions("all", max_turns=1).reference_return() == -1.0
    # seven objects cost all 20 questions
    assert TwentyQuestions(win_rule="last-word").reference_return() < TwentyQuestions().reference_return() - 0.4


@pytest.mark.parametrize(
    ("objects", "returns", "wins"), [("ten", (-13.2, -11.2), (0.6, 0.9)), ("all", (-16.0, -14.5), (0.55, 0.8))]
)
def test_the_demonstrator_leaves_room(objects: str, returns: tuple[float, float], wins: tuple[float, float]) -> None:
    env = TwentyQuestions(objects)
    games = [play_scripted(env, env.demonstrator(seed), seed) for seed in range(600)]
    assert returns[0] < statistics.mean(game.return_ for game in games) < returns[1]
    assert wins[0] < statistics.mean(bool(game.success) for game in games) < wins[1]


def test_the_usual_wording_is_said_most_and_questions_come_back() -> None:
    env = TwentyQuestions("ten")
    games = [play_scripted(env, env.demonstrator(seed), seed).utterances for seed in range(300)]
    triples = [wordings for wordings in load_facts().questions.values() if len(wordings) == 3]
    said = [sum(game.count(wordings[rank]) for game in games for wordings in triples) for rank in range(3)]
    # weights 1, 1/4, 1/9: shares 36/49, 9/49, 4/49
    assert [count / sum(said) for count in said] == pytest.approx([36 / 49, 9 / 49, 4 / 49], abs=0.04)
    repeated = sum(len(game) - len(set(game)) for game in games) / sum(map(len, games))
    assert 0.15 < repeated < 0.35  # a fifth on purpose, and what chance adds


def test_demonstrations_hold_every_question_and_every_guess() -> None:
    env = TwentyQuestions()
    said = {u for seed in range(1500) for u in play_scripted(env, env.demonstrator(seed), seed).utterances}
    facts = load_facts()
    expected = {q for questions in facts.questions.values() for q in questions} | {guess(name) for name in facts.names}
    assert said == expected | set(SLIPS)


def test_a_player_survives_an_oracle_that_errs() -> None:
    class Liar:
        def answer(self, targets: list[str], questions: list[str]) -> list[str]:
            return ["No."] * len(targets)

    env = TwentyQuestions("ten", oracle=Liar())  # type: ignore[arg-type]
    assert len(play_scripted(env, env.reference(0), seed=0).utterances) <= 20


def test_the_table_answers_in_batches() -> None:
    answers = TableOracle().answer(["dog", "pen", "pen"], ["Is it alive?", "Is it alive?", "Is it nice?"])
    assert answers == ["Yes.", "No.", "Invalid Question."]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("yes", "Yes."),
        (" Yes, it is.", "Yes."),
        ("NO!", "No."),
        ("Not sure", "Invalid Question."),
        ("", "Invalid Question."),
    ],
)
def test_reading_a_models_reply(reply: str, answer: str) -> None:
    assert read_answer(reply) == answer
