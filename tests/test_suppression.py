"""Tokens that the policy must not say: notes are the environment's to write."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from archer.beginning import begin_actor
from archer.config import DemonstrationsConfig, EnvConfig, RolloutConfig, RunConfig
from archer.envs.base import ScriptedGame, play_scripted
from archer.intake import with_fitting_lines
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.tiny import build_tiny_actor
from archer.rollout.play import play
from archer.rollout.prompts import line_breaks
from tests.conftest import LIMITS, SAMPLING
from tests.worlds import Echo, TwoSteps


@pytest.fixture
def muted() -> Actor:
    """An untrained actor that would say anything but line breaks and ``a``."""
    actor = build_tiny_actor(
        ["Say a word.\n", "banana"] * 3, layers=1, width=16, heads=2, context=160, vocabulary=300, seed=0
    )
    actor.suppress([*line_breaks(actor.tokenizer), *actor.tokenizer("a")["input_ids"]])
    return actor


def _silent(actor: Actor) -> set[int]:
    return set(actor.model.generation_config.suppress_tokens)


def test_all_tokens_with_a_line_break_are_found(muted: Actor) -> None:
    tokenizer = muted.tokenizer
    found = line_breaks(tokenizer)
    assert tokenizer("\n")["input_ids"][0] in found
    assert all("\n" in tokenizer.decode([i]) for i in found)
    assert not any("\n" in tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in found)


def test_suppressed_tokens_are_never_said_and_the_others_share_their_probability(muted: Actor) -> None:
    games = play(muted, Echo, list(range(20)), task="echo", sampling=SAMPLING, limits=LIMITS)
    said = [turn.utterance for game in games for turn in game.turns]
    assert not _silent(muted) & {int(i) for utterance in said for i in utterance.ids}
    # What was stored at sampling is what is recomputed for learning.
    batch = collate(games)
    with torch.no_grad():
        again = muted.logprobs(batch, batch.utterance_tokens()).numpy()
        np.testing.assert_allclose(again, np.concatenate([u.logprobs for u in said]), atol=2e-5)
        probabilities = muted.policy(torch.zeros(len(muted.tokenizer))).softmax(dim=0)
    # Equal logits: one share for each token that is left.
    left = len(muted.tokenizer) - len(_silent(muted))
    assert probabilities.max().item() == pytest.approx(1 / left)
    assert probabilities[list(_silent(muted))].sum().item() == 0.0


def test_answers_may_hold_what_the_agent_must_not_say(muted: Actor) -> None:
    games = play(muted, Echo, [4], task="echo", sampling=SAMPLING, limits=LIMITS)
    batch = collate(games)
    with torch.no_grad():
        assert torch.isfinite(muted.answer_logprobs(muted.hidden(batch), batch)).all()


def test_a_saved_actor_keeps_to_it(muted: Actor, tmp_path: Path) -> None:
    muted.save_pretrained(tmp_path)
    again = Actor.from_pretrained(tmp_path)
    assert _silent(again) == _silent(muted)
    prompt = again.tokenizer("Say a word.\n", return_tensors="pt")
    torch.manual_seed(0)
    spoken = again.model.generate(**prompt, do_sample=True, top_k=0, max_new_tokens=60, num_return_sequences=8)
    assert not _silent(again) & set(spoken[:, prompt["input_ids"].shape[1] :].flatten().tolist())


@pytest.mark.parametrize("layout", ["plain", "transcript", "minutes"])
def test_only_in_minutes_an_utterance_is_one_line(layout: str) -> None:
    actor = begin_actor(_config(layout), _games())
    assert (actor.model.generation_config.suppress_tokens is not None) == (layout == "minutes")


def test_a_demonstrator_that_breaks_lines_is_refused() -> None:
    games = [dataclasses.replace(game, utterances=("red\n", "red")) for game in _games()]
    with pytest.raises(ValueError, match=r"conversation 1: .* rollout\.layout='minutes' is for utterances of one line"):
        with_fitting_lines(games, _config("minutes").rollout, skip=False)
    assert with_fitting_lines(games, _config("plain").rollout, skip=False) == (games, [])


def _games() -> list[ScriptedGame]:
    env = TwoSteps()
    return [play_scripted(env, env.demonstrator(seed), seed) for seed in range(4)]


def _config(layout: str) -> RunConfig:
    return RunConfig(
        env=EnvConfig(name="tests.worlds:TwoSteps"),
        demonstrations=DemonstrationsConfig(games=4),
        rollout=RolloutConfig(layout=layout),  # type: ignore[arg-type]
    )
