"""Engines in the place of the built-in one: what they say is learned from, by whose probability, and faults."""

from __future__ import annotations

import dataclasses
import http.client
import io
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archer
from archer.asking import Unanswered, ask
from archer.beginning import begin_actor
from archer.config import RunConfig, ServerConfig
from archer.config.layers import overlay
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.rollout import server_engine
from archer.rollout.best_of import play_best_of
from archer.rollout.chat import Chat
from archer.rollout.engines import engine_of
from archer.rollout.play import Limits, play
from archer.rollout.sampling import Sampling
from archer.rollout.speaking import EngineError, Speaker
from archer.storage.runfolder import RunFolder
from archer.storage.shards import read_shard
from archer.types import Episode
from tests.chatting import fine_tune
from tests.completions import Completions, serving
from tests.critics import Counts
from tests.families import save_sure
from tests.worlds import Echo

LIMITS = Limits(max_turns=4, max_tokens=160, parallel=4)
SAMPLING = Sampling(max_tokens=6, temperature=0.8)
EVALUATED = 50
NONE = dataclasses.asdict(ServerConfig())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that is sure of what it says."""
    return save_sure("qwen2", tmp_path_factory.mktemp("model"))


@pytest.fixture
def server(model: Path) -> Iterator[Completions]:
    with serving(model) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_engine, "PAUSE", 0.01)


def _config(path: Path, server: Completions, **changes: Any) -> RunConfig:
    settings = {
        "env": {"name": "tests.worlds:Echo"},
        "model": {"actor": str(path)},
        "rollout": {
            "engine": "server", "layout": "chat", "max_tokens": 160, "utterance_tokens": 6, "best_of": 0,
            "server": {"url": server.url, "model": "tiny", "timeout": 5.0, "retries": 2},
        },
        "demonstrations": {"games": 0},
        "critic_start": {"epochs": 0},
        "actor_start": {"epochs": 0},
        "actor": {"method": "none"},
    }  # fmt: skip
    return overlay(overlay(RunConfig(), settings, "test"), changes, "test")


def _actor(config: RunConfig) -> Actor:
    return begin_actor(config, [])


def _played(actor: Actor, speaker: Speaker, seeds: list[int], sampling: Sampling = SAMPLING) -> list[Episode]:
    return play(
        actor, Echo, seeds, task="echo", sampling=sampling, limits=LIMITS, layout=Chat, speaker=speaker
    )  # fmt: skip


def _own(actor: Actor, episodes: list[Episode]) -> np.ndarray[Any, np.dtype[np.float32]]:
    batch = collate(episodes)
    with torch.no_grad():
        return actor.logprobs(batch, batch.utterance_tokens()).numpy()


def _all(episodes: list[Episode], name: str) -> Any:
    return np.concatenate([getattr(turn.utterance, name) for episode in episodes for turn in episode.turns])


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("silent", [[], [40, 41, 42, 43, 44]])
def test_what_a_server_says_is_what_is_learned_from(model: Path, old: bool, silent: list[int]) -> None:
    with serving(model, old_ids=old) as server:
        config = _config(model, server)
        actor = _actor(config)
        actor.suppress(silent)
        games = _played(actor, engine_of(config), list(range(6)))
    prompts = {tuple(body["prompt"]) for body in server.asked}
    said = [turn for game in games for turn in game.turns]
    assert all(tuple(turn.prompt_ids.tolist()) in prompts for turn in said)
    assert not set(silent) & set(_all(games, "ids").tolist())
    assert any(turn.utterance.ids[-1] == actor.stop_id for turn in said)
    # The learner's own numbers are kept, at temperature 1 whatever it was drawn at, and the server's agree with them.
    np.testing.assert_array_equal(_all(games, "logprobs"), _own(actor, games))
    np.testing.assert_allclose(_all(games, "engine_logprobs"), _own(actor, games), atol=2e-4)
    assert np.concatenate([game.engine_gap for game in games]).max() < 2e-4


def test_a_game_is_the_same_again_and_greedy_ones_are_the_built_in_engines(model: Path, server: Completions) -> None:
    config = _config(model, server)
    actor, engine = _actor(config), engine_of(config)
    once, again = _played(actor, engine, [3, 7, 8, 3]), _played(actor, engine, [3, 7, 8, 3])
    assert [g.final_prompt_ids.tolist() for g in once] == [g.final_prompt_ids.tolist() for g in again]
    assert once[0].final_prompt_ids.tolist() != once[3].final_prompt_ids.tolist()  # the same seed a second time
    greedy = dataclasses.replace(SAMPLING, temperature=0.0)
    there = _played(actor, engine, [4, 9], greedy)
    here = play(actor, Echo, [4, 9], task="echo", sampling=greedy, limits=LIMITS, layout=Chat)
    assert [g.final_prompt_ids.tolist() for g in there] == [g.final_prompt_ids.tolist() for g in here]


def test_stop_texts_end_an_utterance_where_the_built_in_engine_would_end_it(model: Path, server: Completions) -> None:
    """This server knows none and speaks on."""
    config, greedy = _config(model, server), Sampling(max_tokens=12, temperature=0.0)
    actor, engine = _actor(config), engine_of(config)
    words = [token for token in range(len(actor.tokenizer)) if actor.tokenizer.decode([token]).strip().isalpha()]
    actor.suppress([token for token in range(actor.vocabulary) if token not in {*words, actor.stop_id}])
    free = [turn.utterance for game in _played(actor, engine, [4, 9], greedy) for turn in game.turns]
    texts = (actor.decode(utterance.ids[:count]) for utterance in free for count in range(1, len(utterance.ids)))
    sampling = dataclasses.replace(greedy, stop=(next(text for text in texts if text)[0],))
    there = _played(actor, engine, [4, 9], sampling)
    here = play(actor, Echo, [4, 9], task="echo", sampling=sampling, limits=LIMITS, layout=Chat)
    said = [turn.utterance for game in there for turn in game.turns]
    assert [(u.ids.tolist(), u.text) for u in said] == [
        (turn.utterance.ids.tolist(), turn.utterance.text) for game in here for turn in game.turns
    ]
    assert any(len(utterance.ids) < 12 and utterance.ids[-1] != actor.stop_id for utterance in said)


def test_the_critic_chooses_among_what_a_server_offers(model: Path, server: Completions) -> None:
    config = _config(model, server)
    actor = _actor(config)
    games = play_best_of(
        3, Counts(), actor, Echo, [1, 2], task="echo", sampling=SAMPLING, limits=LIMITS, layout=Chat,
        speaker=engine_of(config),
    )  # fmt: skip
    offered = [tuple(body["prompt"]) for body in server.asked]
    turns = [turn for game in games for turn in game.turns]
    assert all(offered.count(tuple(turn.prompt_ids.tolist())) >= 3 for turn in turns)
    assert all(turn.utterance.engine_logprobs is not None for turn in turns)


def test_passing_faults_are_tried_again(model: Path, server: Completions) -> None:
    config = _config(model, server, rollout={"server": {"timeout": 0.5}})
    actor, engine = _actor(config), engine_of(config)
    server.statuses = [503, 429, 500]
    server.delays = [0.0, 0.0, 0.0, 1.0]
    assert len(_played(actor, engine, [0, 1, 2])) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no_ids", "does not say which token ids it sampled"),
        ("no_logprobs", "gives no log-probabilities"),
        ("scaled", r"nats from the policy's on average.*another temperature than 1"),
        ("ignores_bias", "ignores logit_bias"),
    ],
)
def test_a_server_that_does_not_say_what_is_needed_is_refused(fault: str, reason: str, model: Path) -> None:
    with serving(model, **{fault: True}) as server:
        config = _config(model, server)
        actor = _actor(config)
        if fault == "ignores_bias":
            actor.suppress(range(20, len(actor.tokenizer)))
        sampling = dataclasses.replace(SAMPLING, temperature=0.25 if fault == "scaled" else 1.0)
        with pytest.raises(EngineError, match=reason):
            _played(actor, engine_of(config), [0], sampling)


def test_another_model_is_found_out_before_anything_is_played(model: Path, tmp_path: Path) -> None:
    other = Actor.from_pretrained(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    other.save_pretrained(tmp_path / "other")
    with serving(tmp_path / "other") as server:
        config = _config(model, server)
        with pytest.raises(EngineError, match="another model or other weights"):
            archer.train(config, tmp_path / "run")
        assert len(server.asked) == 4
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_server_without_the_model_is_refused(model: Path, server: Completions) -> None:
    with pytest.raises(ValueError, match=r"rollout\.server\.model='huge', but the server at .* has tiny"):
        engine_of(_config(model, server, rollout={"server": {"model": "huge"}}))
    server.read = 100
    with pytest.raises(ValueError, match=r"rollout\.max_tokens=160 is more than the server's model reads \(100"):
        engine_of(_config(model, server))
    with pytest.raises(EngineError, match="does not tell its models"):
        engine_of(_config(model, server, rollout={"server": {"url": "http://127.0.0.1:9/v1", "retries": 0}}))


def test_a_server_that_loads_no_adapters_is_refused_before_anything_is_learned(tmp_path: Path, model: Path) -> None:
    with serving(model) as server:
        server.loads = False
        adapters = {"model": {"lora": {"rank": 4}}, "rollout": {"server": {"adapters": str(tmp_path / "adapters")}}}
        with pytest.raises(EngineError, match=r"did not load the adapter .*HTTP 404.*--enable-lora"):
            archer.train(_config(model, server, **adapters), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_server_that_dies_ends_the_run_which_goes_on_with_another(model: Path, tmp_path: Path) -> None:
    small = {
        "rollout": {"games": 4, "parallel": 4, "max_turns": 3},
        "critic": {"updates": 1, "batch_turns": 8, "method": "mc", "demonstrations": 0.0},
        "eval": {"every": 0, "final_games": 4},
        "iterations": 2,
    }  # fmt: skip
    with serving(model) as server:
        config = _config(model, server, **small)
        port = server.server_port
        server.dies_after = 25
        with pytest.raises(
            EngineError, match=rf"the server at http://127\.0\.0\.1:{port}/v1 \('tiny'\) gave no answer"
        ):
            archer.train(config, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.completions.Completions.server_bind", _at(port))
        with serving(model) as server:
            summary = archer.train(run=tmp_path / "run", resume=True)
    rows = RunFolder.open(tmp_path / "run").metrics()
    assert summary.games == 8 and rows[-1]["iteration"] == 2
    assert 0 < rows[-1]["rollout/engine_gap_mean"] <= rows[-1]["rollout/engine_gap_max"] < 2e-4
    games = read_shard(tmp_path / "run" / "episodes" / "000002.parquet")
    assert all(turn.utterance.engine_logprobs is not None for game in games for turn in game.turns)


def _at(port: int) -> Any:
    """Binds a server to a port that had another one."""

    def bind(self: Completions) -> None:
        self.server_address = ("127.0.0.1", port)
        super(Completions, self).server_bind()

    return bind


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rollout": {"engine": "built-in"}}, r"rollout\.server says which .* rollout\.engine='built-in'"),
        ({"rollout": {"server": {"url": "localhost"}}}, r"rollout\.server\.url must start with http"),
        ({"rollout": {"server": {"model": ""}}}, r"needs rollout\.server\.model"),
        ({"rollout": {"server": {"adapters": "x"}}}, r"rollout\.server\.adapters is for adapters"),
        ({"rollout": {"overlap": True}}, r"rollout\.overlap two are played with"),
        ({"rollout": {"vllm": {"seed": 1}}}, r"rollout\.vllm has arguments of vLLM, but"),
        ({"rollout": {"engine": "vllm", "vllm": {"seed": 1}, "server": NONE}}, r"rollout\.vllm\.seed follows from"),
        ({"model": {"actor": None}, "rollout": {"layout": "plain"}}, r"name it in model\.actor"),
        ({"model": {"lora": {"rank": 4}}}, r"name it in rollout\.server\.adapters"),
        ({"model": {"lora": {"rank": 4, "dora": True}}}, r"model\.lora\.dora=true; set it to false"),
        ({"actor": {"method": "awr"}}, r"actor\.method='awr' changes the policy.*or actor\.method=none"),
        ({"demonstrations": {"games": 9}}, r"supervised\.epochs=1 changes the policy"),
        ({"env": {"name": None}, "demonstrations": {"files": ["x"]}, "iterations": 0}, "has nothing to play"),
    ],
)  # fmt: skip
def test_what_another_engine_cannot_do_is_refused(changes: dict[str, Any], reason: str, model: Path) -> None:
    class Nowhere:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(ValueError, match=reason):
        _config(model, Nowhere(), **changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_chat_model_learns_through_a_server(tmp_path: Path) -> None:
    """Adapters of a model that was fine-tuned here: the server is sent every version, and plays all games."""
    config, start = fine_tune(
        tmp_path, rollout={"best_of": 2}, eval={"every": 0, "final_games": EVALUATED}, iterations=6
    )
    with serving(tmp_path / "model") as server:
        speaks = {"url": server.url, "model": "tiny", "adapters": str(tmp_path / "adapters")}
        far = overlay(config, {"rollout": {"engine": "server", "server": speaks}}, "test")
        end = archer.train(far, tmp_path / "run")
        again = archer.evaluate(archer.load(tmp_path / "run"), episodes=EVALUATED)
        tried = len(server.asked)
        archer.evaluate(archer.load(tmp_path / "run", engine="built-in"), episodes=2)
        assert len(server.asked) == tried
    assert end.return_mean is not None
    assert start < 0.45 and end.return_mean > 0.6
    assert again["return_mean"] == end.return_mean  # the server speaks for `archer evaluate` too
    # One adapter for every time that it was played, measured or tried; the server is left with the last of each.
    assert len(server.adapters) == len(set(server.adapters)) >= 9
    assert len(list((tmp_path / "adapters").iterdir())) == len(server.models) - 1 == 2
    assert all(row["rollout/engine_gap_max"] < 1e-3 for row in RunFolder.open(tmp_path / "run").metrics()[2:])


def test_a_refusal_that_breaks_off_is_a_refusal() -> None:
    """What a server says of it is read from the connection, which may be gone by then."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise http.client.IncompleteRead(b"half")

    def send() -> bytes:
        raise urllib.error.HTTPError("http://there", 503, "busy", Message(), Broken())

    with pytest.raises(Unanswered, match="HTTP 503 busy"):
        ask(send, bytes.decode, retries=1, pause=0.0, longest=0.0)


def test_whatever_stops_a_request_ends_the_game(
    model: Path, server: Completions, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(model, server)
    actor, engine = _actor(config), engine_of(config)
    monkeypatch.setattr("archer.rollout.server_engine._answer", lambda reply, request: 1 / 0)
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        _played(actor, engine, [0, 1])
