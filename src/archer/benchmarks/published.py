"""The published arrangement of ArCHer, plainly: the reference that the others are measured against.

Games go turn by turn, all together, and `generate` reads every history again, padded on the left. The critic reads
states and utterances apart, each padded to the longest, and generates the utterances of its targets inside its loss;
the actor's loss takes a softmax over the whole vocabulary at every token of state and utterance. Everything in float32,
as in the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archer.benchmarks.workloads import OBSERVATION, UTTERANCE_TOKENS, Shape, Talk
from archer.models.actor import Actor
from archer.types import Ids

Transition = tuple[Ids, Ids, float, Ids, bool]
"""State, utterance, reward, next state, and whether the game ended."""


def play_games(actor: Actor, shape: Shape, games: int | None = None) -> list[Transition]:
    """Games in lock step; `generate` over the whole history every turn."""
    count = games or shape.games
    environments = [Talk(shape.turns) for _ in range(count)]
    observation = np.array(actor.tokenizer(OBSERVATION)["input_ids"], np.int32)
    for environment in environments:
        environment.reset()
    histories = [observation for _ in environments]
    transitions: list[Transition] = []
    for _ in range(shape.turns):
        said = generate(actor, histories)
        following = []
        for environment, history, utterance in zip(environments, histories, said, strict=True):
            answer, reward, over, _, _ = environment.step(actor.decode(utterance))
            heard = np.array(actor.tokenizer(answer)["input_ids"], np.int32)
            after = np.concatenate([history, utterance, heard])
            transitions.append((history, utterance, reward, after, over))
            following.append(after)
        histories = following
    return transitions


@torch.no_grad()
def generate(actor: Actor, states: Sequence[Ids]) -> list[Ids]:
    """One utterance at each state by transformers, histories padded on the left."""
    ids, mask = _padded(states, left=True)
    out = actor.model.generate(
        ids.to(actor.device), attention_mask=mask.to(actor.device), max_new_tokens=UTTERANCE_TOKENS, do_sample=True,
        top_k=0, pad_token_id=actor.stop_id,
    )  # fmt: skip
    found: list[Ids] = []
    for row in out[:, ids.shape[1] :].cpu().numpy().astype(np.int32):
        stops = np.flatnonzero(row == actor.stop_id)
        found.append(row[: stops[0] + 1] if len(stops) else row)
    return found


class PublishedCritic(nn.Module):
    """A trunk that reads states and utterances apart; twin Q of both and twin V of the state."""

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.trunk = deepcopy(actor.model.base_model)
        width = actor.model.config.hidden_size

        def head(inputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
            )

        self.q = nn.ModuleList(head(2 * width) for _ in range(2))
        self.v = nn.ModuleList(head(width) for _ in range(2))

    def forward(self, states: Sequence[Ids], utterances: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Q and V, [N, 2] both."""
        state, utterance = self._read(states), self._read(utterances)
        both = torch.cat([state, utterance], dim=-1)
        return torch.cat([q(both) for q in self.q], dim=-1), torch.cat([v(state) for v in self.v], dim=-1)

    def _read(self, texts: Sequence[Ids]) -> Tensor:
        ids, mask = _padded(texts, left=False)
        device = next(self.parameters()).device
        hidden = self.trunk(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
        found: Tensor = hidden[torch.arange(len(texts)), mask.sum(dim=1) - 1].float()
        return found


class Published:
    """Actor, critic and target critic with an optimizer each."""

    def __init__(self, actor: Actor) -> None:
        self.actor = deepcopy(actor)
        self.critic = PublishedCritic(actor)
        self.target = deepcopy(self.critic).requires_grad_(False)
        self.actor_optimizer = torch.optim.AdamW(self.actor.parameters(), lr=1e-5)
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=2e-5)

    def update_critic(self, batch: Sequence[Transition]) -> None:
        """One step on the TD errors of ``batch``."""
        states, said, rewards, following, over = zip(*batch, strict=True)
        q, v = self.critic(states, said)
        with torch.no_grad():
            fresh = generate(self.actor, states)
            target_v, _ = self.target(states, fresh)
            _, next_v = self.target(following, said)
            reward, alive = (torch.tensor(column, device=q.device)[:, None] for column in (rewards, over))
            target_q = reward + 0.95 * ~alive * next_v
        loss = nn.functional.mse_loss(q, target_q.float()) + nn.functional.mse_loss(v, target_v)
        self._step(loss, self.critic_optimizer, self.critic)
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                old.copy_(0.9 * old + 0.1 * new)

    def update_actor(self, batch: Sequence[Transition]) -> None:
        """One REINFORCE step on fresh utterances at the states of ``batch``."""
        states = [transition[0] for transition in batch]
        said = generate(self.actor, states)
        with torch.no_grad():
            q, v = self.critic(states, said)
            advantage = q.amin(dim=1) - v.amin(dim=1)
        ids, mask = _padded([np.concatenate(pair) for pair in zip(states, said, strict=True)], left=False)
        ids, mask = ids.to(self.actor.device), mask.to(self.actor.device)
        logprobs = self.actor.model(input_ids=ids, attention_mask=mask).logits.float().log_softmax(dim=-1)
        told = logprobs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        begins = torch.tensor([len(state) for state in states], device=ids.device)[:, None]
        place = torch.arange(1, ids.shape[1], device=ids.device)
        uttered = (place >= begins) & mask[:, 1:].bool()
        loss = -(advantage * (told * uttered).sum(dim=1)).mean()
        self._step(loss, self.actor_optimizer, self.actor)

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def _padded(texts: Sequence[Ids], *, left: bool) -> tuple[Tensor, Tensor]:
    """ids and mask, [n, longest]."""
    width = max(len(text) for text in texts)
    ids: Any = np.zeros((len(texts), width), np.int64)
    mask: Any = np.zeros((len(texts), width), np.int64)
    for line, text in enumerate(texts):
        part = slice(width - len(text), None) if left else slice(len(text))
        ids[line, part], mask[line, part] = text, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
