"""One pass over a whole conversation must say what a pass per turn says, whoever else is in the batch."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from archer.config import TinyConfig
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import CausalCritic, Critic
from archer.models.encoder_critic import EncoderCritic
from archer.rollout.siblings import SiblingSampler
from archer.types import Episode, Turn, Utterance
from tests.conftest import SAMPLING

EXACT = 2e-5
"""Float32 sums in another order."""


def test_logprobs_recomputed_equal_those_stored_at_sampling(actor: Actor, episodes: list[Episode]) -> None:
    batch = collate(episodes)
    with torch.no_grad():
        recomputed = actor.logprobs(batch, batch.utterance_tokens()).numpy()
    stored = np.concatenate([episode.logprobs for episode in episodes])
    np.testing.assert_allclose(recomputed, stored, atol=EXACT)


def test_sibling_logprobs_recomputed_equal_those_stored(actor: Actor, episodes: list[Episode]) -> None:
    siblings = SiblingSampler(actor, SAMPLING).sample(episodes, 3, [1])
    batch = collate(episodes, siblings)
    with torch.no_grad():
        recomputed = actor.logprobs(batch, batch.sibling_tokens()).numpy()
    stored = np.concatenate([u.logprobs for game in siblings for group in game for u in group])
    np.testing.assert_allclose(recomputed, stored, atol=EXACT)


def test_batch_mates_change_no_logprob(actor: Actor, episodes: list[Episode]) -> None:
    alone = collate([episodes[3]])
    together = collate(episodes)
    start = sum(len(episode) for episode in episodes[:3])
    with torch.no_grad():
        mine = actor.logprobs(alone, alone.utterance_tokens())
        tokens = together.utterance_tokens()
        all_of_them = actor.logprobs(together, tokens)
    chosen = (tokens.utterance >= start) & (tokens.utterance < start + len(episodes[3]))
    torch.testing.assert_close(all_of_them[chosen], mine, atol=EXACT, rtol=0)


def test_causal_critic_values_equal_a_pass_per_turn(actor: Actor, episodes: list[Episode]) -> None:
    torch.manual_seed(0)
    critic = CausalCritic.from_actor(actor)
    siblings = SiblingSampler(actor, SAMPLING).sample(episodes, 2, [1])

    def feature(ids: np.ndarray) -> torch.Tensor:
        hidden = critic.trunk(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state
        return torch.as_tensor(hidden[0, -1])

    with torch.no_grad():
        values = critic(collate(episodes, siblings))
        turn = 0
        for b, episode in enumerate(episodes):
            for t, played in enumerate(episode.turns):
                state = played.prompt_ids
                torch.testing.assert_close(values.v[turn], critic.v(feature(state)), atol=EXACT, rtol=0)
                q = critic.q(feature(np.concatenate([state, played.utterance.ids])))
                torch.testing.assert_close(values.q[turn], q, atol=EXACT, rtol=0)
                for k, sibling in enumerate(siblings[b][t]):
                    q = critic.q(feature(np.concatenate([state, sibling.ids])))
                    torch.testing.assert_close(values.q_siblings[turn, k], q, atol=EXACT, rtol=0)
                turn += 1
            v_final = critic.v(feature(episode.final_prompt_ids))
            torch.testing.assert_close(values.v_final[b], v_final, atol=EXACT, rtol=0)


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_batch_mates_change_no_value(kind: str, actor: Actor, episodes: list[Episode]) -> None:
    torch.manual_seed(0)
    critic: Critic = (
        CausalCritic.from_actor(actor) if kind == "causal" else EncoderCritic.build(None, actor, TinyConfig(), seed=0)
    )
    siblings = SiblingSampler(actor, SAMPLING).sample(episodes, 2, [1])
    start = sum(len(episode) for episode in episodes[:3])
    mine = slice(start, start + len(episodes[3]))
    with torch.no_grad():
        together = critic(collate(episodes, siblings))
        alone = critic(collate([episodes[3]], [siblings[3]]))
    torch.testing.assert_close(together.q[mine], alone.q, atol=EXACT, rtol=0)
    torch.testing.assert_close(together.v[mine], alone.v, atol=EXACT, rtol=0)
    torch.testing.assert_close(together.q_siblings[mine], alone.q_siblings, atol=EXACT, rtol=0)
    torch.testing.assert_close(together.v_final[3:4], alone.v_final, atol=EXACT, rtol=0)


def test_next_values_are_the_following_states_and_the_final_one(actor: Actor, episodes: list[Episode]) -> None:
    torch.manual_seed(0)
    critic = CausalCritic.from_actor(actor)
    two = [episode for episode in episodes if len(episode) >= 2][:2]
    with torch.no_grad():
        batch = collate(two)
        values = critic(batch)
    following = values.v_next(batch.lengths)
    first = len(two[0])
    torch.testing.assert_close(following[: first - 1], values.v[1:first])
    torch.testing.assert_close(following[first - 1], values.v_final[0])
    torch.testing.assert_close(following[-1], values.v_final[1])


def test_a_rewritten_history_gets_rows_of_its_own(actor: Actor) -> None:
    """An environment may show another prompt each turn; values must be those of the prompts as shown."""

    def said(*ids: int) -> Utterance:
        return Utterance(np.array(ids, np.int32), np.zeros(len(ids), np.float32), "")

    first, second, final = (np.array(ids, np.int32) for ids in ([0, 40, 41], [0, 50, 51, 52], [0, 60]))
    episode = Episode(
        turns=(Turn(first, said(5, 1), "", 0.0), Turn(second, said(6, 1), "", 0.0)),
        end=__import__("archer").End.TURN_LIMIT,
        final_prompt_ids=final,
        seed=0,
        task="",
        policy_version=0,
    )
    torch.manual_seed(0)
    critic = CausalCritic.from_actor(actor)
    batch = collate([episode])
    assert batch.ids.shape[0] == 3
    with torch.no_grad():
        hidden = critic.trunk(input_ids=torch.tensor([[0, 50, 51, 52]])).last_hidden_state
        torch.testing.assert_close(critic(batch).v[1], critic.v(hidden[0, -1]), atol=EXACT, rtol=0)


def test_heads_speak_in_the_units_they_were_given(actor: Actor) -> None:
    critic = CausalCritic.from_actor(actor)
    features = torch.zeros(1, 32)
    plain = critic.v(features)
    critic.set_units(-10.0, 4.0)
    torch.testing.assert_close(critic.v(features), -10.0 + 4.0 * plain)
    critic.set_units(3.0, 0.0)  # all returns alike: nothing is known of their size
    torch.testing.assert_close(critic.v(features), 3.0 + plain)


def test_log_probabilities_in_parts_are_those_of_one_piece(
    actor: Actor, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients, with parts of five tokens each."""
    found = []
    for at_once in (1 << 25, 5 * actor.vocabulary):
        monkeypatch.setattr("archer.models.actor.LOGITS_AT_ONCE", at_once)
        model = deepcopy(actor)
        batch = collate(episodes)
        logprobs = model.logprobs(batch, batch.utterance_tokens())
        (logprobs * torch.arange(len(logprobs))).sum().backward()  # type: ignore[no-untyped-call]
        found.append((logprobs.detach(), [parameter.grad for parameter in model.parameters()]))
    (whole, gradients), (parts, of_parts) = found
    torch.testing.assert_close(parts, whole)
    for one, other in zip(of_parts, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_packed_rows_hold_several_games_and_none_sees_another(actor: Actor, episodes: list[Episode]) -> None:
    together = collate(episodes)
    assert len(together.ids) < len(episodes)  # seven games of one to five turns on fewer rows
    used = int((together.stretch >= 0).sum())
    assert used == sum(len(episode.final_prompt_ids) for episode in episodes)
    apart = [actor.logprobs(batch, batch.utterance_tokens()) for batch in (collate([e]) for e in episodes)]
    torch.testing.assert_close(actor.logprobs(together, together.utterance_tokens()), torch.cat(apart))


@pytest.mark.parametrize("padding", [None, 900], ids=["none", "a late number"])
def test_the_tiny_encoder_reads_tokens_of_any_model(padding: int | None, actor: Actor, episodes: list[Episode]) -> None:
    """GPT-2 and Llama have no token for padding, others have one behind all positions that RoBERTa counts."""
    other = deepcopy(actor)
    if padding is None:
        other.tokenizer.pad_token = None
    else:
        other.tokenizer.add_tokens([f"<{number}>" for number in range(padding - len(other.tokenizer))])
        other.tokenizer.add_special_tokens({"pad_token": "<nothing>"})
        assert other.tokenizer.pad_token_id == padding
    critic = EncoderCritic.build(None, other, TinyConfig(), seed=0)
    with torch.no_grad():
        together, alone = critic(collate(episodes)), critic(collate(episodes[-1:]))
    turns = len(episodes[-1])
    assert torch.allclose(together.v[-turns:], alone.v, atol=1e-5) and torch.isfinite(together.q).all()
    assert (other.tokenizer.pad_token is None) is (padding is None)  # the actor's own is left as it was
