"""The built-in tiny actor: a small decoder and a tokenizer trained on the task's own demonstrations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from archer.models.actor import Actor

STOP = "<|stop|>"
START = "<|start|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE that may merge across words, so that an often heard phrase becomes a single token.

    A small model then sees a conversation as a few tokens a turn, and "was that said before?" is a question about
    one token; anything new is still spelled out. Numbers are cut from what stands around them: each is written alike
    wherever it stands, so that it can be copied.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=STOP, pad_token=STOP, clean_up_tokenization_spaces=False
    )


def build_tiny_actor(
    texts: Iterable[str], *, layers: int, width: int, heads: int, context: int, vocabulary: int, seed: int
) -> Actor:
    """A randomly initialised decoder for the language of ``texts``; an ordinary Hugging Face checkpoint once saved."""
    tokenizer = train_tokenizer(texts, vocabulary)
    config = tiny_shape(layers=layers, width=width, heads=heads, context=context, vocabulary=len(tokenizer))
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return Actor(model, tokenizer)


def tiny_shape(*, layers: int, width: int, heads: int, context: int, vocabulary: int) -> LlamaConfig:
    """What such a decoder looks like."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.05,  # the usual 0.02 suits widths of thousands and starts a narrow model slowly
    )
