"""Models that reply to prompts, with a tiny random T5 and a tiny decoder made on the spot."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from archer.envs.base import play_scripted
from archer.envs.twenty_questions.env import TwentyQuestions
from archer.envs.twenty_questions.oracle import ModelOracle
from archer.models.respondents import CausalRespondent, Seq2SeqRespondent
from archer.models.tiny import build_tiny_actor

WORDS = ["<pad>", "</s>", "<unk>", "yes", "no", "dog", "pen", "Is", "it", "alive", "?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("t5")
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(path)
    return str(path)


def test_answers_do_not_depend_on_the_batch(folder: str) -> None:
    targets, questions = ["dog", "pen", "dog"], ["Is it alive ?", "Is it alive ?", "Is it"]
    together = ModelOracle(Seq2SeqRespondent(folder)).answer(targets, questions)
    assert together == ModelOracle(Seq2SeqRespondent(folder, batch_size=1)).answer(targets, questions)
    assert set(together) <= {"Yes.", "No.", "Invalid Question."} and len(together) == 3


def test_no_questions_no_answers(folder: str) -> None:
    assert ModelOracle(Seq2SeqRespondent(folder)).answer([], []) == []


def test_a_game_is_played_with_it(folder: str) -> None:
    env = TwentyQuestions("ten", max_turns=3, oracle=Seq2SeqRespondent(folder))
    assert 1 <= len(play_scripted(env, env.reference(0), seed=0).utterances) <= 3


def test_a_batch_needs_at_least_one_question(folder: str) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        Seq2SeqRespondent(folder, batch_size=0)


def test_a_decoder_goes_on_from_the_prompt_whatever_stands_beside_it(tmp_path: object) -> None:
    actor = build_tiny_actor(["Is it alive? Yes.\n"], layers=1, width=16, heads=2, context=160, vocabulary=300, seed=0)
    actor.save_pretrained(str(tmp_path))
    prompts = ["Is it", "Is it alive? Is it alive? Is it"]
    together = CausalRespondent(str(tmp_path), max_tokens=5).complete(prompts)
    assert together == [CausalRespondent(str(tmp_path), max_tokens=5).complete([prompt])[0] for prompt in prompts]
    assert not any(reply.startswith("Is it alive? Is it alive?") for reply in together)
    with pytest.raises(ValueError, match="max_tokens"):
        CausalRespondent(str(tmp_path), max_tokens=0)
