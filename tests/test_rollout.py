"""Playing: the same tokens as plain generation, whatever the batch, and records that keep their promises."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections import Counter
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from archer.envs.base import play_scripted
from archer.models.actor import Actor
from archer.rollout.demonstrations import to_episode
from archer.rollout.engine import Engine
from archer.rollout.play import Limits, play
from archer.rollout.prompts import Minutes, PlainText, Transcript
from archer.rollout.sampling import Sampling
from archer.rollout.seat import EnvironmentFailure
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode
from tests.conftest import LIMITS, SAMPLING
from tests.worlds import Echo


def _game(episode: Episode) -> list[list[int]]:
    return [turn.utterance.ids.tolist() for turn in episode.turns]


def test_greedy_games_equal_transformers_generate(actor: Actor) -> None:
    greedy = Sampling(max_tokens=6, temperature=0.0)
    for episode in play(actor, Echo, [0, 1, 4], task="echo", sampling=greedy, limits=LIMITS):
        for turn in episode.turns:
            out = actor.model.generate(
                torch.from_numpy(turn.prompt_ids.astype(np.int64))[None],
                attention_mask=torch.ones(1, len(turn.prompt_ids), dtype=torch.long),
                max_new_tokens=6,
                do_sample=False,
            )
            assert out[0, len(turn.prompt_ids) :].tolist() == turn.utterance.ids.tolist()


def test_sampled_frequencies_are_the_softmax(actor: Actor) -> None:
    prompt = np.array([0, 40, 41], np.int32)
    engine = Engine(actor, 2000, 8, Sampling(max_tokens=1))
    for row in range(2000):
        engine.open(prompt, [row])
    while len(ended := engine.step()) == 0:
        pass
    counts = Counter(int(engine.utterance(int(row)).ids[0]) for row in ended)
    with torch.no_grad():
        logits = actor.model(torch.tensor([[0, 40, 41]])).logits[0, -1]
    expected = logits.softmax(-1).numpy() * 2000
    observed = np.array([counts[token] for token in range(len(expected))])
    # Pearson's χ² over the vocabulary; mean = df, sd = sqrt(2 df)
    chi2 = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)


def test_a_game_does_not_depend_on_its_batch(actor: Actor, episodes: list[Episode]) -> None:
    alone = play(actor, Echo, [4], task="echo", sampling=SAMPLING, limits=LIMITS)[0]
    assert _game(alone) == _game(episodes[4])
    wide = play(actor, Echo, list(range(7)), task="echo", sampling=SAMPLING, limits=Limits(50, 160, 7))
    assert [_game(e) for e in wide] == [_game(e) for e in episodes]


def test_long_prompts_are_prefilled_to_the_same_effect(actor: Actor) -> None:
    long = np.arange(40, 80).astype(np.int32)
    answers = []
    for ids in (long, long[:20]):
        engine = Engine(actor, 1, 80, Sampling(max_tokens=4, temperature=0.0))
        engine.open(ids, [1])
        if len(ids) == 20:  # the second time in two pieces, the later one short enough to be fed step by step
            engine.give(0, long[20:30])
            engine.give(0, long[30:])
        while len(engine.step()) == 0:
            pass
        answers.append(engine.utterance(0).ids.tolist())
    assert answers[0] == answers[1]


def test_turns_share_one_array_and_continue_each_other(episodes: list[Episode]) -> None:
    for episode in episodes:
        for turn, following in zip(episode.turns, episode.turns[1:], strict=False):
            spoken = np.concatenate([turn.prompt_ids, turn.utterance.ids])
            assert following.prompt_ids[: len(spoken)].tolist() == spoken.tolist()
            assert np.shares_memory(turn.prompt_ids, episode.final_prompt_ids)


def test_ends_say_why(episodes: list[Episode]) -> None:
    # Echo: 1 + seed % 5 turns; even seeds terminate, odd ones truncate
    assert [(len(e), e.end) for e in episodes[:4]] == [
        (1, End.TERMINATED), (2, End.TURN_LIMIT), (3, End.TERMINATED), (4, End.TURN_LIMIT),
    ]  # fmt: skip
    short = play(actor=_actor(), make_env=Echo, seeds=[4], task="echo", sampling=SAMPLING, limits=Limits(2, 160, 1))
    assert (len(short[0]), short[0].end, short[0].terminated) == (2, End.TURN_LIMIT, False)
    small = play(actor=_actor(), make_env=Echo, seeds=[4], task="echo", sampling=SAMPLING, limits=Limits(50, 30, 1))
    assert small[0].end is End.TOKEN_LIMIT and len(small[0].final_prompt_ids) <= 30 + 20


def _actor() -> Actor:
    from archer.models.tiny import build_tiny_actor

    return build_tiny_actor(["Say a word.\n"], layers=1, width=16, heads=2, context=160, vocabulary=300, seed=0)


def test_an_environment_that_raises_is_named(actor: Actor) -> None:
    class Broken(Echo):
        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            raise KeyError("the shop is closed")

    with pytest.raises(EnvironmentFailure, match=r"seed 3, turn 1: KeyError: 'the shop is closed'"):
        play(actor, Broken, [3], task="broken", sampling=SAMPLING, limits=LIMITS)


def test_an_observation_that_leaves_no_room_is_refused(actor: Actor) -> None:
    reason = r"seed 3, turn 0: rollout.max_tokens=6 is too small: .* 'echo' has 2 tokens .* raise it to 8 at least"
    with pytest.raises(ValueError, match=reason):
        play(actor, Echo, [3], task="echo", sampling=SAMPLING, limits=Limits(50, 6, 1))


def test_of_a_last_answer_no_more_is_kept_than_a_model_may_read(actor: Actor) -> None:
    class Lectures(Echo):
        ends = False

        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            return "and on " * 500, 1.0, self.ends, not self.ends, {}

    for ends in (True, False):
        Lectures.ends = ends
        [game] = play(actor, Lectures, [3], task="lectures", sampling=SAMPLING, limits=Limits(50, 100, 1))
        assert len(game.final_prompt_ids) == 100 and game.end is (End.TERMINATED if ends else End.TURN_LIMIT)


@pytest.mark.parametrize(
    ("layout", "pieces"),
    [
        (PlainText, ["You said {number} words.\n"]),
        (Transcript, ["{said} You said {number} words.\n"]),
        (Minutes, ["You said {number} words.\n", "{said} You said {number} words.\n"]),
    ],
)
def test_layouts_put_answers_with_or_without_what_they_answer(
    actor: Actor, layout: type[PlainText], pieces: list[str]
) -> None:
    limits = Limits(50, 400, 2)
    for episode in play(actor, Echo, [2], task="echo", sampling=SAMPLING, limits=limits, layout=layout):
        assert len(episode.turns) == 3
        ids = actor.tokenizer.bos_token_id, *actor.tokenizer("Say a word.\n")["input_ids"]
        expected = [*ids]
        for number, turn in enumerate(episode.turns, start=1):
            assert turn.prompt_ids.tolist() == expected
            expected += turn.utterance.ids.tolist()
            for piece in pieces:
                expected += actor.tokenizer(piece.format(said=turn.utterance.text, number=number))["input_ids"]
        assert episode.final_prompt_ids.tolist() == expected


def test_minutes_say_what_was_said_before(actor: Actor) -> None:
    assert Minutes.reply("Is it alive?", "No.", ["Is it a cat?"]) == ("No.\n", "Is it alive? No.\n")
    assert Minutes.reply("Is it alive?", "No.", ["Is it alive?"]) == ("Again: No.\n", "Is it alive? No.\n")
    # An agent with two words, "" and "a", repeats itself within three turns, and so does a script.
    actor = deepcopy(actor)
    ids = actor.tokenizer("a")["input_ids"]
    actor.suppress([i for i in range(len(actor.tokenizer)) if i not in (*ids, actor.tokenizer.eos_token_id)])
    short = Sampling(max_tokens=2)
    played = play(actor, Echo, [2], task="echo", sampling=short, limits=LIMITS, layout=Minutes)[0]
    env = Echo()
    words = iter([turn.utterance.text for turn in played.turns])
    script = to_episode(play_scripted(env, lambda _: next(words), 2), Minutes(actor.tokenizer), seed=2, task="echo")
    for episode in (played, script):
        text = actor.tokenizer.decode(episode.final_prompt_ids)
        said = [turn.utterance.text for turn in episode.turns]
        marks = [f"Again: You said {i + 1} words." in text for i in range(len(said))]
        assert marks == [word in said[:i] for i, word in enumerate(said)]
        assert any(marks)


def test_siblings_are_what_would_be_said_at_the_state(actor: Actor, episodes: list[Episode]) -> None:
    greedy = SiblingSampler(actor, Sampling(max_tokens=6, temperature=0.0)).sample(episodes, 1, [0])
    replay = play(
        actor, Echo, list(range(7)), task="echo", sampling=Sampling(max_tokens=6, temperature=0.0), limits=LIMITS
    )
    for game, played in zip(greedy, replay, strict=True):
        assert game[0][0].ids.tolist() == played.turns[0].utterance.ids.tolist()  # first states are equal


def test_siblings_differ_and_are_reproducible(actor: Actor, episodes: list[Episode]) -> None:
    sampler = SiblingSampler(actor, SAMPLING)
    once, again = sampler.sample(episodes, 4, [7]), sampler.sample(episodes, 4, [7])
    other = sampler.sample(episodes, 4, [8])
    as_ids = [[[u.ids.tolist() for u in group] for group in game] for game in once]
    assert as_ids == [[[u.ids.tolist() for u in group] for group in game] for game in again]
    assert as_ids != [[[u.ids.tolist() for u in group] for group in game] for game in other]
    assert len({tuple(u.ids.tolist()) for u in once[0][0]}) > 1
    drawn = [*once, *again, *other]
    assert sampler.tokens == sum(len(u.ids) for game in drawn for group in game for u in group)


def test_games_of_one_seed_are_different_games(actor: Actor, episodes: list[Episode]) -> None:
    seeds = [3, 5, 3, 3, 5]
    games = play(actor, Echo, seeds, task="echo", sampling=SAMPLING, limits=LIMITS)
    said = [tuple(turn.utterance.text for turn in game.turns) for game in games]
    assert [game.seed for game in games] == seeds  # the environment's seed is the same,
    assert len(set(said)) == 5  # what is said is not;
    for index in (0, 1):  # the first of each is the one that would have been played alone
        alone = episodes[seeds[index]]
        assert said[index] == tuple(turn.utterance.text for turn in alone.turns)


class Slow(Echo):
    """Answers late; remembers in which threads, each of which waits at its first step for two more."""

    threads: ClassVar[set[str]] = set()
    three = threading.Barrier(3)

    def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
        name = threading.current_thread().name
        if name not in self.threads:
            self.threads.add(name)
            self.three.wait(timeout=30)
        time.sleep(0.001 * (1 + self.seed % 3))
        return super().step(utterance)


def test_games_are_the_same_when_environments_answer_in_threads(actor: Actor, episodes: list[Episode]) -> None:
    Slow.threads.clear()
    limits = dataclasses.replace(LIMITS, workers=3)
    late = play(actor, Slow, list(range(7)), task="echo", sampling=SAMPLING, limits=limits)
    assert [_game(e) for e in late] == [_game(e) for e in episodes]
    assert len(Slow.threads) == 3 and all(name.startswith("environment") for name in Slow.threads)


def test_an_environment_that_raises_in_a_thread_is_named(actor: Actor) -> None:
    class Broken(Echo):
        def step(self, utterance: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            raise KeyError("the shop is closed")

    with pytest.raises(EnvironmentFailure, match=r"seed 3, turn 1: KeyError: 'the shop is closed'"):
        play(actor, Broken, [3], task="broken", sampling=SAMPLING, limits=dataclasses.replace(LIMITS, workers=2))


def test_filters_leave_what_they_should() -> None:
    # Probabilities .4 .3 .2 .1
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()

    def left(**settings: Any) -> list[float]:
        found = Sampling(**settings).adjust(logits).softmax(dim=-1)[0].tolist()
        return [round(number, 4) for number in found]

    assert left() == [0.4, 0.3, 0.2, 0.1]
    assert left(top_k=2) == [0.5714, 0.4286, 0.0, 0.0]  # 4/7, 3/7
    assert left(top_p=0.69) == left(top_k=2)  # .4 + .3 are enough
    assert left(top_p=0.71) == [0.4444, 0.3333, 0.2222, 0.0]  # 4/9, 3/9, 2/9
    assert left(min_p=0.4) == [0.4444, 0.3333, 0.2222, 0.0]  # at least .16
    assert left(temperature=0.5) == [0.5333, 0.3, 0.1333, 0.0333]  # squares: 16, 9, 4, 1 of 30
    assert left(temperature=0.5, top_k=2) == [0.64, 0.36, 0.0, 0.0]


def test_filters_bound_what_is_said_and_leave_log_probabilities_alone(actor: Actor) -> None:
    episodes = play(actor, Echo, [0, 2, 4], task="echo", sampling=Sampling(max_tokens=6, top_k=3), limits=LIMITS)
    for turn in (turn for episode in episodes for turn in episode.turns):
        ids = torch.from_numpy(np.concatenate([turn.prompt_ids, turn.utterance.ids]).astype(np.int64))
        with torch.no_grad():
            logprobs = actor.model(ids[None]).logits[0, len(turn.prompt_ids) - 1 : -1].log_softmax(dim=-1)
        for place, token in enumerate(turn.utterance.ids.tolist()):
            assert token in logprobs[place].topk(3).indices
            assert turn.utterance.logprobs[place] == pytest.approx(float(logprobs[place, token]), abs=2e-5)


def test_stop_texts_end_an_utterance_wherever_they_fall_between_tokens(actor: Actor) -> None:
    free = play(actor, Echo, list(range(20)), task="echo", sampling=Sampling(max_tokens=12), limits=LIMITS)
    said = [turn.utterance for episode in free for turn in episode.turns]
    pairs = [pair for utterance in said for pair in re.findall(r"[!-~][!-~]", utterance.text)]
    known = set(actor.tokenizer.batch_decode([[token] for token in range(actor.vocabulary)]))
    stop = (next(pair for pair in pairs if pair not in known),)  # two letters that no single token is
    ended = play(actor, Echo, list(range(20)), task="echo", sampling=Sampling(max_tokens=12, stop=stop), limits=LIMITS)
    heard = [turn.utterance for episode in ended for turn in episode.turns]
    assert all(stop[0] not in utterance.text for utterance in heard)
    stopped = [u for u in heard if stop[0] in actor.decode(u.ids)]
    assert stopped
    for utterance in stopped:  # not a token more than it takes, and the environment hears what stands before
        assert stop[0] not in actor.decode(utterance.ids[:-1])
        assert utterance.text == actor.decode(utterance.ids).split(stop[0])[0].strip()
