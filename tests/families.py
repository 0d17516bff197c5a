"""Chat models of several families, tiny and untrained: templates in short, tokenizers, models of their shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from archer.models.actor import Actor

CHATML = (
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3 = (  # drops the reasoning of the assistant's messages before the user's last one
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% set c = m.content %}"
    "{% if m.role == 'assistant' and '</think>' in c and loop.index0 < ns.last %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (  # users and assistants in turns, nobody else
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant roles are supported') }}{% endif %}{% endfor %}"
)
OPEN_END = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 64, "max_position_embeddings": 512,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, str, list[str], str]] = {
    "qwen2": (CHATML, "qwen2", ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "qwen3": (QWEN3, "qwen3", ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "llama3": (LLAMA3, "llama", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
    "mistral": (MISTRAL, "mistral", ["[INST]", "[/INST]"], "</s>"),
}
"""Template, shape of the model, special tokens besides <s> and </s>, and the one that ends an utterance."""
TEXTS = ["Say a word.", "You said 1 words.", "red green blue yellow", "system user assistant tool", " a b c d e f"] * 3


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Of the family's kind: pieces of words with their space before them (mistral), or bytes."""
    template, _, special, _ = FAMILIES[family]
    made = Tokenizer(BPE(unk_token="<unk>"))
    if family == "mistral":
        made.normalizer = normalizers.Replace(" ", "▁")
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        alphabet = [chr(code) for code in range(32, 127)] + ["▁"]
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<unk>", "<s>", "</s>", *special]
    made.train_from_iterator(
        TEXTS, BpeTrainer(vocab_size=700, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken(name, special=True) for name in special])
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    found.chat_template = template
    return found


def save_family(family: str, path: Path, **changes: Any) -> Path:
    """A checkpoint of the family, as any user has one."""
    made = tokenizer(family)
    config = AutoConfig.for_model(
        FAMILIES[family][1], **(SHAPE | {"tie_word_embeddings": True} | changes),
        vocab_size=len(made), bos_token_id=made.bos_token_id, eos_token_id=made.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    made.save_pretrained(path)
    return path


def save_sure(name: str, path: Path, **sizes: Any) -> Path:
    """Like ``save_family``, a model that is sure of what it says."""
    actor = Actor.from_pretrained(save_family(name, path, **sizes))
    with torch.no_grad():
        for parameter in actor.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    actor.save_pretrained(path)
    return path
