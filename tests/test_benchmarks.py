"""The benchmark's own arithmetic, and that both arrangements do the same work."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from archer.benchmarks import bench as bench_module
from archer.benchmarks import published
from archer.benchmarks.growth import replay_cost, token_cost, turn_bytes
from archer.benchmarks.measure import Measure, interleave
from archer.benchmarks.published import Published
from archer.benchmarks.roofline import Ceilings, Work, decode_work, hidden_parameters, pass_flops
from archer.benchmarks.suite import _iteration, actor_steps, critic_steps, critic_work
from archer.benchmarks.workloads import ACTOR, CRITIC, TINY, Learning, Shape, build_actor, play_games, said_tokens
from archer.cli import main

SMALL = replace(
    TINY,
    sizes=dict(TINY.sizes) | {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 300},
    games=3,
    turns=2,
)
CEILINGS = Ceilings("a processor", 1, {"float32": 1e9, "bfloat16": 4e9}, 1e9)


def test_operations_are_counted_by_hand() -> None:
    actor = build_actor(SMALL)
    # A layer of width 32 with a gated MLP of 48: four projections of 32 · 32 and three of 32 · 48.
    assert hidden_parameters(actor) == 2 * (4 * 32 * 32 + 3 * 32 * 48)
    # 10 tokens that see 5 each: 2 per weight, 4 per layer, width and seen token; 3 of them get 300 logits of width 32.
    assert pass_flops(actor, 10, 5, 3) == 10 * (2 * 17408 + 4 * 2 * 32 * 5) + 2 * 3 * 300 * 32
    work = decode_work(actor, steps=4, tokens=10, context=5, said=3)
    # Four readings of all weights and the output layer, and 5 keys and values of 2 layers for each of 10 tokens.
    assert work.bytes == 4 * (4 * (17408 + 300 * 32) + 10 * 5 * 2 * 2 * 32)


def test_a_critic_step_is_counted_by_hand() -> None:
    actor = build_actor(SMALL)
    ours = Learning.of(actor, play_games(actor, SMALL), batch=2)  # one game of two turns a step, of three games
    length = float(np.mean([len(episode.final_prompt_ids) for episode in ours.episodes]))
    # Two steps: 4 readings of a game and 20 sibling tokens each; 3 · (1 - (2/3)²) games are drawn and spoken about.
    tokens = 2 * (4 * length + 20) + 5 / 3 * (length + 20)
    assert critic_work(ours, 2).flops == pytest.approx(pass_flops(actor, tokens, length / 2, 5 / 3 * 20))


def test_the_least_time_is_what_takes_longer() -> None:
    assert Work(flops=2e9, bytes=1e9).seconds(CEILINGS, torch.float32) == 2.0
    assert Work(flops=2e9, bytes=1e9).bound(CEILINGS, torch.float32) == "arithmetic"
    assert Work(flops=2e9, bytes=1e9).seconds(CEILINGS, torch.bfloat16) == 1.0
    assert Work(flops=2e9, bytes=1e9).bound(CEILINGS, torch.bfloat16) == "memory"


def test_medians_ratios_and_the_share_of_the_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 4.0, 2.0, 8.0, 4.0, 2.0])  # ours, reference, ours, ...
    monkeypatch.setattr("archer.benchmarks.measure.timed", lambda call: (call(), next(seconds)))
    found = interleave("x", "y/s", lambda: 8.0, lambda: 8.0, repeats=3, least=(0.5, "memory"))
    assert (found.ours, found.reference, found.ratio) == (4.0, 2.0, 2.0)  # medians of 8 4 2 and of 2 1 4
    assert found.roofline == 0.25  # half a second of two
    assert found.plain()["spread"] == {"ours": [2.0, 8.0], "reference": [1.0, 4.0]}
    less = Measure("m", "MiB", 10.0, 40.0, None, (), (), less_is_better=True)
    assert less.ratio == 4.0


def test_an_iteration_is_the_sum_of_its_parts() -> None:
    def rate(ours: float, reference: float) -> Measure:
        return Measure("", "", ours, reference, None, (), ())

    # Ours: 128/128 + 50 · 256/12800 + 3 · 256/768 = 3 s; the reference ten times as long.
    found = _iteration(rate(128, 12.8), rate(12800, 1280), rate(768, 76.8))
    assert found.ours == pytest.approx(1200)
    assert found.reference == pytest.approx(120)


def test_both_arrangements_play_the_same_number_of_turns() -> None:
    actor = build_actor(SMALL)
    ours, theirs = play_games(actor, SMALL), published.play_games(actor, SMALL)
    assert sum(map(len, ours)) == len(theirs) == 6
    assert said_tokens(ours) <= 60 and sum(len(said) for _, said, *_ in theirs) <= 60
    over = [ended for *_, ended in theirs]
    assert over == [False] * 3 + [True] * 3


def test_both_arrangements_take_the_published_steps() -> None:
    """One-step TD on one fresh utterance a state, REINFORCE on another, whatever the defaults are."""
    actor = build_actor(SMALL)
    ours = Learning.of(actor, play_games(actor, SMALL), batch=2)  # one game of two turns a step
    assert (CRITIC.method, ACTOR.method, ACTOR.utterances, ACTOR.average) == ("td", "reinforce", "fresh", 0.0)
    drawn = []
    for steps in (critic_steps, actor_steps):
        before = ours.sampler.tokens
        assert steps(ours, 1) == 2.0
        drawn.append(ours.sampler.tokens - before)
    assert all(2 <= tokens <= 20 for tokens in drawn)  # of at most ten tokens each


def test_the_reference_learns_from_what_it_is_given() -> None:
    actor = build_actor(SMALL)
    reference = Published(actor)
    batch = published.play_games(actor, SMALL)
    before = [parameter.clone() for parameter in (*reference.critic.parameters(), *reference.actor.parameters())]
    reference.update_critic(batch)
    reference.update_actor(batch)
    after = [*reference.critic.parameters(), *reference.actor.parameters()]
    moved = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.9
    assert all(torch.equal(a, b) for a, b in zip(build_actor(SMALL).parameters(), actor.parameters(), strict=True))


def test_every_measure_is_taken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole command, on shapes that take seconds."""
    for size in ("BATCH", "REFERENCE_BATCH", "LARGE_BATCH", "LARGE_REFERENCE_BATCH"):
        monkeypatch.setattr(f"archer.benchmarks.suite.{size}", 4)
    monkeypatch.setattr("archer.benchmarks.suite.GAMES", 3)
    monkeypatch.setattr(bench_module, "TINY", SMALL)
    monkeypatch.setattr(bench_module, "GPT2", SMALL)
    monkeypatch.setattr(bench_module, "measure_ceilings", lambda: CEILINGS)
    monkeypatch.setattr(bench_module, "memory", lambda: Measure("memory", "MiB", 1.0, 2.0, 2.0, (1.0,), (2.0,)))
    monkeypatch.setattr(bench_module, "token_cost", lambda shape: token_cost(shape, turns=(1, 2), games=2))
    monkeypatch.setattr(bench_module, "replay_cost", lambda: replay_cost(sizes=(40, 80)))
    main(["bench", "--repeats", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    units = [measure["unit"] for measure in found["measures"]]
    assert units == [
        "tokens/s", "tokens/s", "transitions/s", "utterances/s", "iterations/h", "MiB", "tokens/s", "transitions/s",
    ]  # fmt: skip
    assert all(measure["ours"] > 0 and measure["ratio"] > 0 for measure in found["measures"])
    main(["bench", "--repeats", "1"])
    told = capsys.readouterr().out
    assert "a turn in replay" in told and "roofline" in told


def test_a_turn_in_replay_takes_about_what_it_holds() -> None:
    assert 200 < turn_bytes(games=20) < 2000


def test_senseless_settings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--repeats", "0"])
    assert "--repeats and --threads must be at least 1" in capsys.readouterr().err


def test_shapes_know_how_long_their_games_are() -> None:
    shape = Shape("x", "llama", {}, games=1, turns=4)
    assert shape.tokens == 5 * 21  # one more answer than utterances, and room
