"""The paper's critic: state and utterance encoded apart by a BERT-like encoder (ArCHer section 3.3 and its code)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel

from archer.config import TinyConfig
from archer.models.actor import Actor
from archer.models.batch import EpisodeBatch
from archer.models.critic import TWIN, Critic, Values
from archer.models.heads import Heads
from archer.models.passes import Passes


class EncoderCritic(Critic):
    """One shared encoder; pooled state ⊕ pooled utterance -> twin Q, pooled state -> twin V; 3-layer ReLU heads.

    State and utterance meet in the heads only, never in attention. Texts longer than the encoder reads lose their
    beginning, as in the original. Cost: one encoding of the whole history per turn, O(T²) over an episode. The
    environment's answers are not predicted.
    """

    def __init__(self, encoder: Any, tokenizer: Any, actor_tokenizer: Any, passes: Passes) -> None:
        super().__init__()
        self.encoder = encoder.eval()  # dropout off: a value must not change between two looks at it
        self.tokenizer = tokenizer
        self.actor_tokenizer = actor_tokenizer
        self.passes = passes
        width = encoder.config.hidden_size
        self.q = Heads(2 * width, width, TWIN, normalise=False)
        self.v = Heads(width, width, TWIN, normalise=False)

    @classmethod
    def build(cls, path: str | None, actor: Actor, tiny: TinyConfig, *, seed: int) -> EncoderCritic:
        """Around the encoder at ``path``, or a random one of the size ``tiny`` that reads the actor's tokens; passes
        are computed as the actor's. ValueError where there is no encoder at ``path``."""
        if path is not None:
            try:
                encoder, reader = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
                return cls(encoder, reader, actor.tokenizer, actor.passes)
            except (OSError, ValueError) as error:
                raise ValueError(f"model.critic_model: cannot load an encoder from {path!r}: {error}") from error
        tokenizer = deepcopy(actor.tokenizer)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        padding = tokenizer.pad_token_id
        config = RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=tiny.width,
            intermediate_size=3 * tiny.width,
            num_hidden_layers=tiny.layers,
            num_attention_heads=tiny.heads,
            max_position_embeddings=max(514, padding + 514),  # positions are counted from the padding's number on
            type_vocab_size=1,
            pad_token_id=padding,
            bos_token_id=actor.tokenizer.bos_token_id,
            eos_token_id=actor.tokenizer.eos_token_id,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(RobertaModel(config), tokenizer, actor.tokenizer, actor.passes)

    def forward(self, batch: EpisodeBatch, *, answers: bool = False, tokens: bool = False) -> Values:
        if tokens:
            raise ValueError("the encoder reads whole utterances and has no values of single tokens")
        turns = [turn for episode in batch.episodes for turn in episode.turns]
        states = self._encode([self._text(turn.prompt_ids) for turn in turns])
        finals = self._encode([self._text(episode.final_prompt_ids) for episode in batch.episodes])
        played = self._encode([turn.utterance.text for turn in turns])
        count = batch.siblings_per_state
        width = states.shape[-1]
        siblings = (
            self._encode([utterance.text for group in batch.siblings for utterance in group])
            if count
            else states.new_zeros(0, width)
        ).reshape(len(turns), count, width)
        repeated = states[:, None].expand(-1, count, -1)
        return Values(
            q=self.q(torch.cat([states, played], dim=-1)),
            v=self.v(states),
            q_siblings=self.q(torch.cat([repeated, siblings], dim=-1)),
            v_final=self.v(finals),
            answers=states.new_zeros(0),
            v_tokens=states.new_zeros(0, TWIN),
        )

    def _text(self, ids: Any) -> str:
        return str(self.actor_tokenizer.decode(ids.tolist(), skip_special_tokens=True))

    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Pooled encodings, shape [len(texts), d]."""
        limit = min(512, self.encoder.config.max_position_embeddings - 2)
        self.tokenizer.truncation_side = "left"
        encoded = self.tokenizer(
            [text or " " for text in texts], padding=True, truncation=True, max_length=limit, return_tensors="pt"
        ).to(next(self.encoder.parameters()).device)
        return self.passes.pooled(self.encoder, encoded["input_ids"], encoded["attention_mask"])
