"""Records: an episode's log-probabilities, read and exchanged."""

from __future__ import annotations

import numpy as np
import pytest

from archer.types import End, Episode, LogProbs, Turn, Utterance


def _floats(*values: float) -> LogProbs:
    return np.array(values, np.float32)


def _episode() -> Episode:
    """Two tokens said, then one, which an engine elsewhere said."""
    said = (
        Utterance(np.array([5, 6], np.int32), _floats(-1, -2), "five six"),
        Utterance(np.array([7], np.int32), _floats(-4), "seven", engine_logprobs=_floats(-5)),
    )
    turns = tuple(
        Turn(np.ones(2 + number, np.int32), one, "Say it.", float(number), {"n": number})
        for number, one in enumerate(said)
    )
    return Episode(turns, End.TERMINATED, np.ones(9, np.int32), seed=3, task="x", policy_version=2)


def test_log_probabilities_go_to_the_tokens_that_they_are_of() -> None:
    before = _episode()
    after = before.with_logprobs(_floats(-10, -20, -40))
    assert before.logprobs.tolist() == [-1, -2, -4] and after.logprobs.tolist() == [-10, -20, -40]
    assert [turn.utterance.logprobs.tolist() for turn in after.turns] == [[-10, -20], [-40]]
    assert after.turns[0].utterance.engine_logprobs is None
    assert after.turns[1].utterance.engine_logprobs is before.turns[1].utterance.engine_logprobs
    for was, now in zip(before.turns, after.turns, strict=True):  # and nothing else is another
        assert now.prompt_ids is was.prompt_ids and now.utterance.ids is was.utterance.ids
        assert (now.utterance.text, now.reward, now.info) == (was.utterance.text, was.reward, was.info)
    assert (after.end, after.seed, after.policy_version) == (before.end, before.seed, before.policy_version)


def test_an_engines_log_probabilities_stand_beside_the_learners() -> None:
    after = _episode().with_logprobs(_floats(-10, -20, -40), engine=_floats(-11, -22, -43))
    assert after.logprobs.tolist() == [-10, -20, -40]
    assert after.engine_gap.tolist() == [1, 2, 3]  # all of it was said elsewhere now


def test_every_token_has_one_log_probability() -> None:
    for given in ((_floats(-1, -2), None), (_floats(-1, -2, -4, -8), None), (_floats(-1, -2, -4), _floats(-1))):
        with pytest.raises(ValueError, match="3 tokens were said, and as many log-probabilities are needed"):
            _episode().with_logprobs(*given)
