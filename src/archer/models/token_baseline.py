"""The token baseline: how much an utterance will turn out to be worth, as it is being said (ArCHer section 3.4)."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from archer.models.actor import Actor
from archer.models.batch import EpisodeBatch, TokenIndex
from archer.models.heads import Heads
from archer.models.lora import decoder_copy, inside
from archer.models.passes import Passes


class TokenBaseline(nn.Module):
    """A decoder with one value read off before every token."""

    def __init__(self, trunk: Any, passes: Passes) -> None:
        super().__init__()
        self.trunk = trunk
        self.passes = passes
        width = inside(trunk).config.hidden_size
        self.value = Heads(width, width, 1, normalise=True)

    @classmethod
    def from_actor(cls, actor: Actor) -> TokenBaseline:
        """Start from a copy of the actor's decoder, which already reads the task's language."""
        return cls(decoder_copy(actor.model), actor.passes)

    @property
    def unit(self) -> float:
        """Return that one unit of the head's output stands for."""
        return float(self.value.scale)

    def forward(self, batch: EpisodeBatch, tokens: TokenIndex) -> Tensor:
        """Value of the state and what of the utterance stands before each indexed token, float32 [T]."""
        hidden = self.passes.hidden(self.trunk, batch)
        return cast(Tensor, self.value(hidden[tokens.row, tokens.predicted_at]))[:, 0]
