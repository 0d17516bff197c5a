"""The critic: what every state and utterance of a conversation is worth, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from archer import devices
from archer.devices.sharding import copy_of
from archer.models.actor import Actor, logits_of, token_logprobs
from archer.models.batch import EpisodeBatch, after_each_turn, collate
from archer.models.heads import Heads
from archer.models.lora import Adapted, decoder_copy, inside, output_copy
from archer.models.packing import in_parts
from archer.models.passes import Passes
from archer.types import Episode

TWIN = 2
"""Heads of each kind: the lesser of two independent estimates is less optimistic (double Q-learning)."""


@dataclass(frozen=True)
class Values:
    """What a critic thinks of a batch of B episodes, N turns and K siblings per state; H = 2 heads each."""

    q: Tensor
    """Q of the played utterances, [N, H]."""
    v: Tensor
    """V of the states they were said at, [N, H]."""
    q_siblings: Tensor
    """Q of the siblings, [N, K, H]."""
    v_final: Tensor
    """V of the states after the last turn, [B, H]."""
    answers: Tensor
    """Log-probability of every token that the environment answered, [T]; empty where not asked for or not predicted."""
    v_tokens: Tensor
    """V before every token of the played utterances, [T, H]; empty where not asked for."""
    ratio: Tensor = field(default_factory=lambda: torch.zeros(0))
    """How many times as likely as whoever said them the policy, as it is now, would say the played utterances, [N];
    empty where not asked for."""

    def v_next(self, lengths: tuple[int, ...]) -> Tensor:
        """V of the state after every turn, [N, H]; ``lengths`` are the turns of each episode."""
        return after_each_turn(self.v, self.v_final, lengths)

    def apart(self, episodes: Sequence[Episode]) -> list[Values]:
        """What belongs to each of the ``episodes``, without the answers."""
        turns = [len(episode) for episode in episodes]
        tokens = [episode.tokens_said if len(self.v_tokens) else 0 for episode in episodes]
        known = turns if len(self.ratio) else [0] * len(turns)
        cut = [torch.split(values, turns) for values in (self.q, self.v, self.q_siblings)]
        rest = torch.split(self.v_final, 1), torch.split(self.v_tokens, tokens), torch.split(self.ratio, known)
        return [
            Values(q, v, siblings, final, self.answers[:0], said, ratio)
            for q, v, siblings, final, said, ratio in zip(*cut, *rest, strict=True)
        ]

    @staticmethod
    def joined(parts: Sequence[Values]) -> Values:
        """The values of one batch of all the parts' episodes."""
        names = [field.name for field in fields(Values)]
        return Values(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def to(self, device: torch.device | str) -> Values:
        """The same on ``device``."""
        return Values(**{name: values.to(device) for name, values in vars(self).items()})


class Critic(nn.Module, ABC):
    """Twin Q and twin V over utterances."""

    q: Heads
    v: Heads

    @abstractmethod
    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        """Every value of the batch; with ``answers`` its predictions of the environment's answers too, with ``tokens``
        V of every token."""

    @property
    def unit(self) -> float:
        """Return that one unit of the heads' output stands for."""
        return float(self.q.scale)

    def set_units(self, location: float, scale: float) -> None:
        """Tell the heads where returns lie (see ``Heads.set_units``)."""
        self.q.set_units(location, scale)
        self.v.set_units(location, scale)

    def target(self) -> Critic:
        """A frozen copy, to be moved by ``polyak_update``."""
        copy = copy_of(self)
        copy.requires_grad_(False)
        return copy

    def __call__(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        values: Values = super().__call__(batch, answers=answers, tokens=tokens)
        return values


def values_in_parts(
    critic: Critic, episodes: Sequence[Episode], *, by_token: bool = False
) -> Iterator[tuple[Sequence[Episode], Values]]:
    """Values of any number of episodes, without gradient: some episodes at a time, with theirs.

    A critic that was trained ``by_token`` has V of every token and no Q: what it thinks of an utterance is V before the
    last token of it, when all has been said but that it ends.
    """
    device = next(critic.parameters()).device

    def look(part: Sequence[Episode]) -> Values:
        with torch.no_grad():
            values = critic(collate(part).to(device), tokens=by_token)
        if by_token:
            said = torch.tensor([len(turn.utterance.ids) for episode in part for turn in episode.turns])
            values = replace(values, q=values.v_tokens[said.cumsum(0) - 1])
        return values.to("cpu")

    parts = [episodes[part] for part in in_parts(episodes)]
    for part, values in zip(parts, devices.divide(parts, look), strict=True):
        yield part, values.to(device)


class CausalCritic(Critic):
    """A decoder reads the whole conversation once; each value is read off the last token it may depend on.

    Q attends from the utterance to the history, so "was that asked before?" is a question it can answer. All Q and V
    of an episode and its siblings come from a single pass: O(T) tokens, where encoding every (state, utterance) pair
    apart costs O(T²). The same pass predicts the environment's answers: what will be answered is most of what an
    utterance is worth, and a far denser signal than returns.
    """

    def __init__(self, trunk: Any, passes: Passes, output: nn.Module | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.passes = passes
        self.output = output
        width = inside(trunk).config.hidden_size
        self.q = Heads(width, width, TWIN, normalise=True)
        self.v = Heads(width, width, TWIN, normalise=True)

    @classmethod
    def from_actor(cls, actor: Actor) -> CausalCritic:
        """Start from a copy of the actor's decoder, which already reads the task's language."""
        return cls(decoder_copy(actor.model), actor.passes, output_copy(actor.model))

    def get_output_embeddings(self) -> nn.Module | None:
        """The output layer where it has weights of its own; the name is the one that transformers models use, by which
        optimizers tell such layers from hidden ones."""
        return self.output

    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        hidden = self.passes.hidden(self.trunk, batch)
        said = batch.utterance_tokens() if tokens else None
        words = inside(self.trunk).get_input_embeddings().weight.shape[0]
        return Values(
            q=self.q(hidden[batch.row, batch.utterance_at]),
            v=self.v(hidden[batch.row, batch.state_at]),
            q_siblings=self.q(hidden[batch.row[:, None], batch.sibling_at]),
            v_final=self.v(hidden[batch.final_row, batch.final_at]),
            answers=token_logprobs(self._output, words, hidden, batch, batch.observation_tokens())
            if answers
            else hidden.new_zeros(0),
            v_tokens=self.v(hidden[said.row, said.predicted_at]) if said else hidden.new_zeros(0, TWIN),
        )

    def _output(self, hidden: Tensor) -> Tensor:
        """Logits [., vocabulary] of hidden states [., d], as the actor that it began as has them."""
        network = inside(self.trunk)
        layer: Callable[[Tensor], Tensor]
        if self.output is not None:
            layer = self.output
        elif isinstance(self.trunk, Adapted):
            layer = self.trunk.base.model.get_output_embeddings()
        else:
            layer = partial(linear, weight=network.get_input_embeddings().weight)
        return logits_of(hidden, layer, network.config, self.passes)
