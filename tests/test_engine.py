"""The engine: what every architecture says by itself, it says from our cache; kernels and torch agree."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import CausalCritic
from archer.models.passes import Passes
from archer.rollout import backends
from archer.rollout import engine as engine_module
from archer.rollout.backends import Backend, CompiledBackend, Places, Scoring, TorchBackend
from archer.rollout.best_of import play_best_of
from archer.rollout.engine import Engine
from archer.rollout.play import play
from archer.rollout.sampling import Sampling, stream_key, uniform
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode, Turn, Utterance
from tests.conftest import LIMITS, SAMPLING
from tests.worlds import Echo

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8,
}  # fmt: skip
GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "llama": SIZES,
    "qwen3": SIZES,
    "mistral": SIZES | {"sliding_window": 8},
    "gemma2": SIZES | {"sliding_window": 8, "query_pre_attn_scalar": 8},  # caps scores, and every second layer a window
    "gpt_oss": SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},  # attention sinks
    "granite": SIZES | {"logits_scaling": 8.0},
    "cohere": {name: size for name, size in SIZES.items() if name != "head_dim"} | {"logit_scale": 0.25},
}


def _model(kind: str, actor: Actor, **sizes: Any) -> Actor:
    tokenizer = actor.tokenizer
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **special, **sizes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # weights of the usual small size would hardly look at the history
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    return Actor(model, tokenizer)


@pytest.fixture(params=["compiled", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    found: Backend = CompiledBackend() if request.param == "compiled" else TorchBackend()
    for module in ("cache", "decoders"):
        monkeypatch.setattr(f"archer.rollout.{module}.backend_for", lambda device: found)
    engine_module._CHECKED.clear()
    yield found


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_says_what_generate_says(kind: str, actor: Actor, backend: Backend) -> None:
    model = _model(kind, actor, **ARCHITECTURES[kind])
    engine = Engine(model, 3, 60, Sampling(max_tokens=8, temperature=0.0))
    prompts = [np.arange(40, 70), np.arange(90, 95), np.arange(200, 211)]
    rows = [engine.open(prompt.astype(np.int32), [0]) for prompt in prompts]
    said: dict[int, list[int]] = {}
    while engine.active:
        for row in engine.step().tolist():
            said[row] = engine.utterance(row).ids.tolist()
    for row, prompt in zip(rows, prompts, strict=True):
        ids = torch.from_numpy(prompt)[None]
        wanted = model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert said[row] == wanted[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_learner_reads_what_every_architecture_says(kind: str, actor: Actor) -> None:
    """Longer than windows are, on the conversation and on a sibling's branch of it."""
    model = _model(kind, actor, **ARCHITECTURES[kind])
    state, said, sibling = (np.arange(start, start + 14, dtype=np.int32) for start in (40, 70, 90))

    def utterance(ids: Any) -> Utterance:
        return Utterance(ids, np.zeros(len(ids), np.float32), "")

    final = np.concatenate([state, said])
    game = Episode((Turn(state, utterance(said), "", 0.0),), End.TERMINATED, final, 0, "", 0)
    batch = collate([game], [[[utterance(sibling)]]])
    with torch.no_grad():
        hidden = model.hidden(batch)
        for tokens, words in ((batch.utterance_tokens(), said), (batch.sibling_tokens(), sibling)):
            text = torch.from_numpy(np.concatenate([state, words]).astype(np.int64))
            plain = model.network(text[None]).logits[0, 13:-1].float().log_softmax(dim=-1)
            wanted = plain.gather(1, text[14:, None])[:, 0]
            assert torch.allclose(model.full_logprobs(hidden, batch, tokens), wanted, atol=1e-4)


def test_what_an_unknown_architecture_makes_of_its_logits_is_found_out(actor: Actor) -> None:
    model = _model("granite", actor, **ARCHITECTURES["granite"])
    played = model.network.forward
    model.network.forward = lambda *a, **k: _doubled(played(*a, **k))
    with pytest.raises(ValueError, match="cannot be learned with"):
        Engine(model, 3, 60, Sampling(max_tokens=8))


def _doubled(output: Any) -> Any:
    output.logits = 2 * output.logits
    return output


def test_a_long_conversation_beside_short_ones_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "TOKENS_AT_ONCE", 40)
    monkeypatch.setattr(engine_module, "PADDED_AT_ONCE", 60)
    # 5 and 5, as with the 30 they would be padded to 3 · 30; 30 and 10 of 50, 2 · 30; the other 40; 9.
    assert engine_module._edges(np.array([5, 5, 30, 50, 9])) == [0, 10, 50, 90, 99]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_in_whichever_pieces_conversations_are_read(
    kind: str, actor: Actor, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(kind, actor, **ARCHITECTURES[kind])
    texts = [np.arange(40, 40 + count, dtype=np.int32) for count in (5, 60, 7, 33)]

    def read() -> torch.Tensor:
        engine = Engine(model, 4, 70, Sampling())
        rows = np.array([engine.open(text, []) for text in texts])
        order = np.argsort(rows)
        return engine.encode(rows[order], np.array([len(text) - 1 for text in texts])[order])

    at_once = read()
    monkeypatch.setattr(engine_module, "TOKENS_AT_ONCE", 24)
    monkeypatch.setattr(engine_module, "PADDED_AT_ONCE", 30)
    assert torch.allclose(read(), at_once, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("mamba", {"hidden_size": 32, "num_hidden_layers": 2}), ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4})],
)
def test_models_that_keep_their_memory_elsewhere_are_refused(kind: str, sizes: dict[str, Any], actor: Actor) -> None:
    model = _model(kind, actor, **sizes)
    with pytest.raises(ValueError, match=r"cannot be played with: its layers do not attend through"):
        Engine(model, 1, 20, Sampling())


@pytest.mark.parametrize(
    "scoring",
    [
        Scoring(0.3),
        Scoring(0.3, window=5),
        Scoring(0.3, softcap=1.5),
        Scoring(0.3, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
        Scoring(0.3, window=2, softcap=3.0),
    ],
    ids=["plain", "window", "softcap", "sinks", "both"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_both_backends_is_the_definition(scoring: Scoring, dtype: torch.dtype) -> None:
    """Tokens of three conversations, one of which begins on a trunk, against a softmax written out by hand."""
    heads, width, tokens = 4, 10, 13  # the width is no multiple of what the kernel takes at once
    generator = torch.Generator().manual_seed(0)
    columns = np.array([*range(7), *range(3), *range(9, 12)])
    places = Places(
        rows=np.array([0] * 7 + [1] * 3 + [2] * 3),
        columns=columns,
        trunk_rows=np.array([0] * 10 + [1] * 3),
        shared=np.array([0] * 10 + [9] * 3),
    )
    query = torch.randn(tokens, heads, width, generator=generator).to(dtype)
    keys, values = (torch.randn(tokens, 2, width, generator=generator).to(dtype) for _ in range(2))
    trunk_keys, trunk_values = (torch.randn(9, 2, width, generator=generator).to(dtype) for _ in range(2))
    on_trunk = Places(np.ones(9, np.int64), np.arange(9), np.zeros(9, np.int64), np.zeros(9, np.int64))
    for backend in (CompiledBackend(), TorchBackend()):
        store, trunk = (backend.allocate(3, 2, 12, width, query) for _ in range(2))
        backend.write(trunk, trunk_keys, trunk_values, on_trunk)
        backend.write(store, keys, values, places)
        found = backend.attend(query, store, trunk, places, scoring)
        assert found.dtype == dtype and found.shape == query.shape
        for n in range(tokens):
            before = [t for t in range(n + 1) if places.rows[t] == places.rows[n]]
            seen_keys, seen_values = keys[before], values[before]
            if places.shared[n]:
                seen_keys = torch.cat([trunk_keys, seen_keys])
                seen_values = torch.cat([trunk_values, seen_values])
            if scoring.window:
                seen_keys, seen_values = seen_keys[-scoring.window :], seen_values[-scoring.window :]
            for h in range(heads):
                scores = seen_keys[:, h // 2].float() @ query[n, h].float() * scoring.scale
                if scoring.softcap:
                    scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
                if scoring.sinks is not None:
                    scores = torch.cat([scores, scoring.sinks[h : h + 1]])
                weights = scores.softmax(dim=0)[: len(seen_keys)]
                wanted = weights @ seen_values[:, h // 2].float()
                rounding = 2e-5 if dtype == torch.float32 else 0.02
                torch.testing.assert_close(found[n, h].float(), wanted, rtol=rounding, atol=rounding)


def test_draws_are_the_inverse_of_the_cumulative_distribution(backend: Backend) -> None:
    # Probabilities .1 .2 .3 .4 in one line, and a second line in which the third token is never said.
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.5, 0.0, 0.25]]).log()
    lines = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    uniforms = np.array([0.05, 0.15, 0.35, 0.99, -1.0, 0.74, 0.76, 0.9999], np.float32)
    tokens, logprobs = backend.draw(logits, lines, uniforms)
    assert tokens.tolist() == [0, 1, 2, 3, 3, 1, 3, 3]
    assert np.exp(logprobs) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.25, 0.25], rel=1e-5)


def test_many_draws_over_a_large_vocabulary_have_its_frequencies(backend: Backend) -> None:
    logits = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    count = 200_000
    uniforms = uniform(np.full(count, stream_key([7]), np.uint64), np.arange(count))
    tokens, _ = backend.draw(logits, np.zeros(count, np.int64), uniforms)
    expected = logits[0].softmax(dim=-1).numpy() * count
    observed = np.bincount(tokens, minlength=1000)
    chi2 = float(((observed - expected) ** 2 / expected).sum())  # mean 999, standard deviation √(2 · 999) = 45
    assert abs(chi2 - 999) < 5 * 45


def test_rounding_never_draws_what_cannot_be_said(backend: Backend) -> None:
    """A little of the largest number may be left over behind the last block of tokens that has any probability."""
    for seed in range(80):
        logits = torch.full((1, 2048), -torch.inf)
        said = torch.randperm(1900, generator=torch.Generator().manual_seed(seed))[:50]
        logits[0, said] = torch.randn(50, generator=torch.Generator().manual_seed(seed))
        tokens, logprobs = backend.draw(logits, np.zeros(1, np.int64), np.array([1 - 2**-24], np.float32))
        assert tokens[0] in said.tolist() and np.isfinite(logprobs[0])


def test_the_numbers_of_neighbouring_streams_have_nothing_in_common() -> None:
    keys = np.array([stream_key([seed, k]) for seed in range(200) for k in range(5)], np.uint64)
    numbers = np.stack([uniform(keys, np.full(len(keys), column)) for column in range(20)])
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 5 * np.sqrt(1 / 12 / numbers.size)
    correlation = np.asarray(np.corrcoef(numbers))[~np.eye(20, dtype=bool)]  # of columns, over streams: sd 1/√1000
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)
    assert stream_key([1, 2]) != stream_key([2, 1]) != stream_key([1, 2, 0])


def test_logits_that_are_no_numbers_are_refused(actor: Actor) -> None:
    broken = _model("llama", actor, **SIZES)
    engine = Engine(broken, 1, 20, Sampling(max_tokens=3))
    engine.open(np.arange(3, dtype=np.int32), [0])
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="weights have diverged"):
        engine.step()


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_see_the_same_alone_and_side_by_side_to_the_last_bit(window: int, dtype: torch.dtype) -> None:
    """Four tokens of a row look at keys together, and what is left over one by one: every sum is the same chain."""
    compiled, scoring = CompiledBackend(), Scoring(0.3, window=window)
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(90, 2, 40, generator=generator).to(dtype) for _ in range(3))
    columns, nowhere = np.arange(90), np.zeros(90, np.int64)
    store = compiled.allocate(1, 2, 90, 40, query)
    every = Places(nowhere, columns, nowhere, nowhere)
    compiled.write(store, keys, values, every)
    together = compiled.attend(query, store, store, every, scoring)
    for n in range(90):
        place = Places(nowhere[[n]], columns[[n]], nowhere[[n]], nowhere[[n]])
        assert torch.equal(compiled.attend(query[[n]], store, store, place, scoring), together[[n]])


def test_what_is_said_does_not_depend_on_the_batch_to_the_last_bit(actor: Actor) -> None:
    def say(seeds: list[int]) -> dict[int, bytes]:
        engine = Engine(actor, len(seeds), 40, Sampling(max_tokens=8))
        rows = {engine.open(np.arange(30 + seed, 41 + seed, dtype=np.int32), [seed]): seed for seed in seeds}
        said: dict[int, bytes] = {}
        while engine.active:
            for row in engine.step().tolist():
                utterance = engine.utterance(row)
                said[rows[row]] = utterance.ids.tobytes() + utterance.logprobs.tobytes()
        return said

    together = say(list(range(9)))
    assert together == {seed: said for part in ([0], [1, 2], [3, 4, 5, 6, 7], [8]) for seed, said in say(part).items()}


def _played(model: Actor, sampler: SiblingSampler, past: Episode) -> list[int]:
    game = play(model, Echo, [0], task="echo", sampling=sampler.sampling, limits=LIMITS)[0]
    return list(map(int, game.turns[0].utterance.ids))


def _sampled(model: Actor, sampler: SiblingSampler, past: Episode) -> list[int]:
    return list(map(int, sampler.sample([past], 1, [0])[0][0][0].ids))


def _chosen(model: Actor, sampler: SiblingSampler, past: Episode) -> list[int]:
    critic = CausalCritic.from_actor(model)
    game = play_best_of(1, critic, model, Echo, [0], task="echo", sampling=sampler.sampling, limits=LIMITS)[0]
    return list(map(int, game.turns[0].utterance.ids))


@pytest.mark.parametrize("speak", [_played, _sampled, _chosen])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_was_learned_is_what_plays(
    speak: Callable[[Actor, SiblingSampler, Episode], list[int]],
    precision: torch.dtype,
    actor: Actor,
    episodes: list[Episode],
) -> None:
    """A fused optimizer leaves no mark on the weights it changes; whoever speaks must see the change even so."""
    model = Actor(deepcopy(actor.model), actor.tokenizer, Passes(precision))
    sampler = SiblingSampler(model, Sampling(max_tokens=6, temperature=0.0))
    before = speak(model, sampler, episodes[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.3, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    after = speak(model, sampler, episodes[0])
    fresh = Actor(deepcopy(model.model), actor.tokenizer, Passes(precision))
    assert before != after == speak(fresh, SiblingSampler(fresh, sampler.sampling), episodes[0])


def test_without_numba_torch_takes_over_and_says_what_to_install(
    actor: Actor, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    backends._compiled.cache_clear()
    bare = Actor(deepcopy(actor.model), actor.tokenizer)
    with pytest.warns(UserWarning, match=r"pip install -e '\.\[fast\]'"):
        found = play(bare, Echo, list(range(7)), task="echo", sampling=SAMPLING, limits=LIMITS)
    backends._compiled.cache_clear()
    assert isinstance(backends.backend_for(torch.device("meta")), TorchBackend)
    said = [[turn.utterance.ids.tolist() for turn in episode.turns] for episode in found]
    assert said == [[turn.utterance.ids.tolist() for turn in episode.turns] for episode in episodes]
