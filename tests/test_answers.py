"""The auxiliary prediction of the environment's answers looks at the right tokens."""

from __future__ import annotations

import numpy as np
import torch

from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import CausalCritic
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode
from tests.conftest import SAMPLING


def test_answer_tokens_are_what_stands_between_utterances(actor: Actor, episodes: list[Episode]) -> None:
    batch = collate(episodes, SiblingSampler(actor, SAMPLING).sample(episodes, 2, [1]))
    tokens = batch.observation_tokens()
    found = batch.ids[tokens.row, tokens.stands_at].tolist()
    expected: list[int] = []
    for episode in episodes:
        states = [*(turn.prompt_ids for turn in episode.turns[1:]), episode.final_prompt_ids]
        for turn, state in zip(episode.turns, states, strict=True):
            expected += state[len(turn.prompt_ids) + len(turn.utterance.ids) :].tolist()
    assert found == expected
    assert torch.equal(tokens.predicted_at, tokens.stands_at - 1)


def test_critic_predicts_answers_from_the_tokens_before_them(actor: Actor, episodes: list[Episode]) -> None:
    critic = CausalCritic.from_actor(actor)
    episode = episodes[0]
    with torch.no_grad():
        answers = critic(collate([episode]), answers=True).answers
        ids = torch.from_numpy(episode.final_prompt_ids.astype(np.int64))[None]
        logprobs = actor.model(input_ids=ids).logits[0].log_softmax(-1)
    # The untrained critic is a copy of the actor, whose output layer is its embedding.
    start = len(episode.turns[0].prompt_ids) + len(episode.turns[0].utterance.ids)
    expected = torch.stack([logprobs[i - 1, ids[0, i]] for i in range(start, ids.shape[1])])
    torch.testing.assert_close(answers, expected, atol=2e-5, rtol=0)
