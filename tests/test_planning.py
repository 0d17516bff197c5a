"""Memory plans: arithmetic by hand, depth, what is measured, what is advised, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archer import devices
from archer.config import RunConfig
from archer.config.layers import overlay, parse_assignment
from archer.devices.quantised import state_bytes
from archer.planning import plan as planning
from archer.planning.advice import advise, report
from archer.planning.agents import read_shapes
from archer.planning.games import alike, games_of
from archer.planning.plan import Need, Plan, plan
from archer.planning.pretending import Pretending
from archer.planning.room import parse_bytes
from tests.conftest import Command
from tests.worlds import TwoSteps

LAYERS, WIDTH, INNER, WORDS = 5, 32, 96, 500
WEIGHTS = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH) + WORDS * WIDTH + WIDTH
"""Queries, keys, values and outputs, three matrices of the feed-forward part and two norms a layer; the embeddings,
which are the output layer too, and the last norm."""
HEADS = 2 * (2 * WIDTH + 2 * (2 * (WIDTH * WIDTH + WIDTH) + WIDTH + 1)) + 4
"""Of the critic, twice over for Q and V: a norm, and for each twin two layers and a last one; and four units."""
ADAMW = {name: {"matrix_lr": 0.0} for name in ("supervised", "critic_start", "actor_start", "critic", "actor")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's description, and nothing else."""
    _describe(tmp_path, LAYERS)
    return tmp_path


def _describe(folder: Path, layers: int) -> None:
    shape = {
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": layers,
        "num_attention_heads": 2, "vocab_size": WORDS, "max_position_embeddings": 256, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape))


def _config(folder: Path, **changes: Any) -> RunConfig:
    small = {
        "model": {"actor": str(folder)},
        "rollout": {"max_tokens": 64, "utterance_tokens": 8, "games": 4, "parallel": 4, "best_of": 0},
        "critic": {"method": "td", "batch_turns": 4}, "actor": {"batch_turns": 4, "average": 0.0},
        "supervised": {"batch_games": 2}, "critic_start": {"batch_games": 2}, "actor_start": {"batch_games": 2},
    }  # fmt: skip
    return overlay(overlay(overlay(RunConfig(), small, "test"), ADAMW, "test"), changes, "test")


def _plan(config: RunConfig, turns: int = 2, tokens: int = 48) -> Plan:
    return plan(config, read_shapes(config), alike(config, turns, tokens, "as told"))


def test_tensors_without_numbers_are_counted_as_long_as_they_live() -> None:
    pretending = Pretending()
    with pretending:
        with pretending.making():
            layer = nn.Linear(1000, 1000, bias=False)  # 4 MB
        inputs = torch.ones(500, 1000)  # 2 MB
        assert pretending.live == 6_000_000

        def step() -> None:
            hidden = layer(inputs).relu()  # 2 MB, beside another 2 before it
            del hidden
            layer(inputs).pow(2).sum().backward()

        trace = pretending.course(step)
        assert [level for level, _ in groupby(trace.live)][:3] == [6_000_000, 8_000_000, 10_000_000]
        assert pretending.live == 10_000_000  # the gradient has come
        assert float(layer.weight.detach().sum()) == 1.0  # whoever asks is told something


def test_weights_and_states_are_what_arithmetic_says(folder: Path) -> None:
    found = _plan(_config(folder))
    assert found.networks == {
        "actor": 4 * WEIGHTS, "critic": 4 * (WEIGHTS + HEADS), "target critic": 4 * (WEIGHTS + HEADS),
    }  # fmt: skip
    matrices = 7 * LAYERS + 2 * LAYERS + 2
    assert found.states["actor"] == 2 * 4 * WEIGHTS + 4 * matrices  # and a count of steps for each
    kept = sum(found.networks.values()) + sum(found.states.values())
    assert kept <= found.phases["playing"].kept <= kept + 10_000
    # the supervised start has the actor alone at first, and in the end weights, states and gradients of it
    assert 4 * WEIGHTS <= found.phases["supervised start"].kept <= 4 * WEIGHTS + 10_000
    assert found.phases["supervised start"].peak > 16 * WEIGHTS


@pytest.mark.slow
def test_eight_bits_adapters_and_copies(folder: Path) -> None:
    whole = _plan(_config(folder))
    eight = _plan(_config(folder, actor={"states": "8-bit"}))
    # embeddings 500 · 32 = 16000; the matrices, of 1024 and 3072 numbers, are too few for anything but float32
    saved = 8 * WORDS * WIDTH - state_bytes(WORDS * WIDTH, "8-bit")[0]
    assert state_bytes(16_000, "8-bit") == (2 * 16_000 + 8 * 63, 0)
    assert whole.states["actor"] - eight.states["actor"] == saved
    assert whole.phases["actor update"].peak - eight.phases["actor update"].peak == saved
    assert state_bytes(1_000_000, "paged-8-bit") == (8 * 3907, 2_000_000)

    adapted = _plan(_config(folder, model={"lora": {"rank": 4}, "precision": "bfloat16"}))
    assert adapted.networks["frozen model"] == 2 * WEIGHTS
    assert adapted.networks["actor"] == 4 * LAYERS * 4 * (4 * 2 * WIDTH + 3 * (WIDTH + INNER))  # rank 4
    copies = _plan(_config(folder, actor={"average": 1.0, "kl": 0.1}))
    assert copies.networks["running mean of the actor"] == copies.networks["anchor"] == 4 * WEIGHTS


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"checkpointing": True, "precision": "bfloat16"}},
        {"model": {"lora": {"rank": 4}}, "device": "cuda"},
        {"rollout": {"best_of": 2}, "critic": {"method": "retrace", "keep_values": 2}, "actor": {"kl": 0.1}},
    ],
)
def test_two_shallow_models_stand_for_a_deep_one(
    folder: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(folder, **changes)
    short = _plan(config)
    monkeypatch.setattr(planning, "FEW", LAYERS)
    whole = _plan(config)
    assert short.networks == whole.networks and short.states == whole.states
    for name, need in whole.phases.items():
        assert short.phases[name].peak == pytest.approx(need.peak, rel=0.01), name


@pytest.mark.slow
def test_what_saves_memory_does(folder: Path) -> None:
    def peak(phase: str, **changes: Any) -> int:
        return _plan(_config(folder, **changes), tokens=64).phases[phase].peak

    plain = peak("critic update", critic={"batch_turns": 32})
    assert peak("critic update", critic={"batch_turns": 32, "accumulation": 4}) < 0.6 * plain
    assert peak("critic update", critic={"batch_turns": 32}, model={"checkpointing": True}) < 0.8 * plain
    few, many = (peak("playing", rollout={"parallel": count, "games": 64}) for count in (4, 64))
    row = 2 * LAYERS * 32 * (64 + 16) * 4  # keys and values of 64 tokens, in an odd number of blocks of 16
    assert many - few >= 60 * row
    apart = _plan(_config(folder, rollout={"overlap": True}))
    assert "playing" not in apart.phases
    assert apart.phases["playing while learning"].peak == apart.peak


@pytest.mark.slow
def test_other_networks_are_planned_too(folder: Path) -> None:
    encoder = _plan(_config(folder, model={"critic": "encoder", "critic_model": None}))
    assert encoder.networks["critic"] == encoder.networks["target critic"] != 4 * WEIGHTS
    other = _plan(_config(folder, model={"critic_model": str(folder)}))
    assert other.networks["critic"] == 4 * (WEIGHTS + HEADS)
    ppo = overlay(
        _config(folder), {"critic": {"method": "none"}, "actor": {"method": "ppo", "advantage": "group", "kl": 0.0,
                          "demonstrations": 0.0}, "rollout": {"group": 2}, "critic_start": {"epochs": 0},
                          "actor_start": {"epochs": 0}}, "test",
    )  # fmt: skip
    assert "critic" not in _plan(ppo).networks and "actor update" in _plan(ppo).phases


@pytest.mark.slow
def test_an_output_layer_of_its_own_counts_in_every_network(folder: Path) -> None:
    shape = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(shape))
    networks = _plan(_config(folder)).networks
    assert networks["actor"] == 4 * (WEIGHTS + WORDS * WIDTH)
    assert networks["critic"] == networks["target critic"] == 4 * (WEIGHTS + WORDS * WIDTH + HEADS)


@pytest.mark.slow
def test_in_shards_a_process_holds_its_part(folder: Path) -> None:
    def of_two(config: RunConfig) -> Plan:
        with devices.pretended(2):
            return _plan(config)

    one, two = _plan(_config(folder)), of_two(_config(folder))
    assert two.devices == 2 and two.networks == one.networks and two.states == one.states
    assert two.phases["critic update"].peak < one.phases["critic update"].peak  # half of the batch
    cut = of_two(_config(folder, model={"sharding": "full"}))
    assert cut.networks["actor"] == 2 * WEIGHTS
    # The first process has all of what cannot be halved: the last layers of the critic's four heads, of one row each
    # (4 · 4 bytes · (32 + 1) / 2 more than half), and its four units.
    assert cut.networks["critic"] == 2 * (WEIGHTS + HEADS) + 8 * (WIDTH + 1) + 8
    matrices = 7 * LAYERS + 2 * LAYERS + 2
    assert cut.states["actor"] == 2 * 2 * WEIGHTS + 4 * matrices
    assert cut.phases["making the critic"].peak > cut.networks["actor"] + 4 * (WEIGHTS + HEADS)  # whole for a moment
    assert cut.phases["playing"].peak > cut.phases["playing"].kept + 2 * WEIGHTS  # as it is while it plays


def test_games_are_as_told_or_as_the_demonstrations(folder: Path) -> None:
    config = overlay(RunConfig(), {"env": {"name": "tests.worlds:TwoSteps"}, "demonstrations": {"games": 16}}, "test")
    shown = games_of(config, TwoSteps)
    assert shown.assumed.startswith("as 16 demonstrations: 2.0 turns, up to ")
    assert sum(len(game) for game in shown.batch(8)) >= 8
    told = games_of(config, TwoSteps, turns=3, tokens=40)
    assert told.assumed == "as told: 3 turns and 40 tokens each" and told.longest == 40
    assert {len(game) for game in told.pool} == {3}
    most = games_of(_config(folder), TwoSteps)  # no tokenizer in that folder
    assert most.assumed == "the most that rollout.max_turns and rollout.max_tokens allow: 4 turns and 64 tokens each"


@pytest.mark.slow
def test_advice_is_planned_again_until_it_fits(folder: Path) -> None:
    config = _config(folder, critic={"batch_turns": 64}, actor={"batch_turns": 64}, demonstrations={"games": 0},
                     critic_start={"epochs": 0}, actor_start={"epochs": 0})  # fmt: skip
    first = _plan(config)
    found = report(config, None, memory=str(int(first.peak * 0.6 / 0.95)), turns=2, tokens=48)
    assert found["peak"] == first.peak and not found["fits"] and found["fits_then"]
    assert found["peak_then"] <= 0.6 * first.peak + 1
    assert sum(change["saves"] for change in found["changes"]) == found["peak"] - found["peak_then"]
    changed = config
    for setting in (setting for change in found["changes"] for setting in change["settings"]):
        changed = overlay(changed, parse_assignment(setting), "test")
    assert _plan(changed).peak == found["peak_then"]


@pytest.mark.slow
def test_advice_for_several_devices(folder: Path) -> None:
    """Parts of a batch are counted over all of them, and networks may be cut."""
    config = _config(folder, critic={"batch_turns": 64}, demonstrations={"games": 0}, critic_start={"epochs": 0},
                     actor_start={"epochs": 0})  # fmt: skip
    found = report(config, None, processes=2, memory="1MB", turns=2, tokens=48)
    settings = [setting for change in found["changes"] for setting in change["settings"]]
    assert found["devices"] == 2 and "model.sharding=full" in settings and "critic.accumulation=8" in settings
    assert not any("8-bit" in setting for setting in settings)  # refused in shards


@pytest.mark.slow
def test_long_games_are_planned_too(folder: Path) -> None:
    """Longer than what is looked at as it is, where nothing has come before that would have counted them."""
    found = _plan(_config(folder, rollout={"max_tokens": 6000}, demonstrations={"games": 0}), tokens=5000)
    assert found.phases["critic update"].peak > 4 * WEIGHTS * 3


def test_advice_says_when_nothing_helps(folder: Path) -> None:
    found = Plan("cpu", 1, {}, {}, 0, {"playing": Need(0, 100)}, "")
    advice = advise(_config(folder), found, 10, lambda config: found)
    assert not advice.fits and advice.changes == ()


def test_bytes_as_people_write_them() -> None:
    assert parse_bytes("80GB") == 80 * 10**9 and parse_bytes("1.5 GiB") == 1.5 * 2**30 and parse_bytes("7") == 7
    for wrong in ("", "many", "0GB", "-1GB", "8 gallons"):
        with pytest.raises(ValueError, match="--memory: a number of bytes such as 80GB"):
            parse_bytes(wrong)


def test_the_command(folder: Path, command: Command, tmp_path: Path) -> None:
    _describe(folder, layers=1)  # enough for what it says
    settings = [
        f"model.actor={folder}", "demonstrations.games=0", "critic_start.epochs=0", "actor_start.epochs=0",
        "rollout.max_tokens=64", "rollout.games=4", "rollout.best_of=0", "critic.batch_turns=4", "actor.batch_turns=4",
        *(f"{part}.matrix_lr=0" for part in ADAMW),
    ]  # fmt: skip
    told = command("plan", "--memory", "4GB", "--turns", "2", "--set", *settings)
    assert told.code == 0
    assert "It fits." in told.out and "actor update" in told.out and "as told: 2 turns and 64 tokens each" in told.out
    for arguments, wanted in (
        (["--turns", "0"], "--turns must be at least 1"),
        (["--devices", "0"], "--devices must be at least 1"),
        (["--memory", "much"], "--memory: a number of bytes"),
        (["--set", f"model.actor={tmp_path / 'nowhere'}"], "model.actor: cannot read what the model"),
    ):
        refused = command("plan", *arguments)
        assert refused.code == 2 and wanted in refused.err
    shards = command("plan", "--set", *settings, "model.sharding=full")
    assert shards.code == 2 and "say how many with --devices" in shards.err
    shards = command("plan", "--devices", "2", "--turns", "2", "--set", *settings, "model.sharding=full")
    assert shards.code == 0 and "Phases, on each of 2 devices (cpu)" in shards.out
    (folder / "config.json").unlink()
    refused = command("plan", "--set", *settings)
    assert refused.code == 2 and "the folder has no config.json" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["all weights", "adapters, bfloat16", "two devices, shards"])
def test_a_plan_is_within_a_tenth_of_what_is_measured(configuration: str) -> None:
    program = Path(__file__).parent.parent / "benchmarks" / "planning.py"
    command = [sys.executable, str(program), "--only", configuration, "--size", "small"]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout)["ratio"] == pytest.approx(1.0, abs=0.1)
