"""`archer view`: what its pages ask for, whom it answers, and the file that opens without it."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archer
from archer.api import load_critic
from archer.cli import main
from archer.config import RunConfig
from archer.config.layers import to_yaml
from archer.health.numbers import ValuedTurns
from archer.operations.doctoring import examine_episodes
from archer.operations.playing import Advisor, Sitting
from archer.rollout.seat import EnvironmentFailure
from archer.storage.files import write_json, write_text
from archer.storage.shards import read_shard, shard_path, write_shard
from archer.types import End, Episode, Turn, Utterance
from archer.view import tables
from archer.view.critic import critic_page, pictures
from archer.view.data import Query, RunView, differences
from archer.view.judging import judge_of
from archer.view.server import create_app, query_of, serve
from tests.worlds import Misbehaving

HOSTILE = "</script><img src=x onerror=alert(1)>"


def _episode(seed: int, reward: float, said: str, end: End = End.TERMINATED) -> Episode:
    prompt = np.arange(3, dtype=np.int32)
    utterance = Utterance(np.array([5, 6], np.int32), np.array([-0.1, -2.0], np.float32), said)
    turn = Turn(prompt, utterance, "Which?", reward, {"success": reward == 0})
    return Episode((turn,), end, np.concatenate([prompt, utterance.ids]), seed=seed, task="toy", policy_version=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a run under way leaves it: two iterations of games, no checkpoint yet."""
    path = tmp_path_factory.mktemp("view") / "run"
    (path / "episodes").mkdir(parents=True)
    write_text(path / "config.yaml", to_yaml(RunConfig(seed=3)))
    rows: list[dict[str, Any]] = [{"iteration": 0, "games": 0, "eval/return_mean": -9.0, "eval/return_ci95": 0.5}]
    rows += [{"iteration": n, "games": 10 * n, "rollout/return_mean": n - 9.0, "critic/q_loss": None} for n in (1, 2)]
    write_text(path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_json(path / "summary.json", {"return_mean": -7.0, "reference_return": -1.0})
    for iteration in (1, 2):
        games = [_episode(10 * iteration + n, -float(n), f"word {iteration}.{n}") for n in range(6)]
        games.append(_episode(99, -20.0, HOSTILE, End.TURN_LIMIT))
        write_shard(shard_path(path / "episodes", iteration), games, iteration)
    write_shard(path / "start.parquet", [_episode(11, -3.0, "before")], 0)
    return path


def _client(*runs: Path) -> Any:
    return create_app(runs).test_client()


HERE = {"base_url": "http://127.0.0.1:8765"}


def test_an_overview_has_settings_curves_and_outcome(run: Path) -> None:
    found = RunView(run).overview()
    assert found["iterations"] == [0, 1, 2, 2] and found["config"]["seed"] == 3
    assert found["metrics"]["rollout/return_mean"] == [None, -8.0, -7.0, None]
    assert found["metrics"]["critic/q_loss"] == [None] * 4
    assert found["metrics"]["eval/return_mean"] == [-9.0, None, None, -7.0]  # the last evaluation too
    assert found["summary"]["reference_return"] == -1.0
    assert found["sources"] == ["train", "start"]


@pytest.mark.parametrize(
    ("query", "count", "returns"),
    [
        (Query(), 14, None),
        (Query(sort="return", limit=3), 14, [0.0, 0.0, -1.0]),
        (Query(sort="return", descending=False, limit=3), 14, [-20.0, -20.0, -5.0]),
        (Query(sort="return", limit=2, offset=2), 14, [-1.0, -1.0]),
        (Query(least=-1.0), 4, None),
        (Query(most=-5.0), 4, None),
        (Query(end="turn_limit"), 2, [-20.0, -20.0]),
        (Query(iteration=2, least=0.0), 1, [0.0]),
        (Query(seed=99), 2, [-20.0, -20.0]),
        (Query(seed=13, iteration=1), 1, [-3.0]),
        (Query(seed=13, source="start"), 0, []),
        (Query(source="eval"), 0, []),
        (Query(text="WORD 2.3"), 1, [-3.0]),
        (Query(text="%"), 0, []),
        (Query(text="'; DROP TABLE x; --"), 0, []),
        (Query(text="which?"), 14, None),
        (Query(source="start"), 1, [-3.0]),
        (Query(source="final"), 0, []),
    ],
)
def test_games_are_found_by_query(run: Path, query: Query, count: int, returns: list[float] | None) -> None:
    found = RunView(run).episodes(query)
    assert found["count"] == count
    if returns is not None:
        assert [row["return"] for row in found["rows"]] == returns


def test_a_game_is_told_turn_by_turn(run: Path) -> None:
    row = RunView(run).episodes(Query(sort="return", limit=1))["rows"][0]
    game = RunView(run).episode("train", row["iteration"], row["row"])
    (turn,) = game["turns"]
    assert (turn["observation"], turn["reward"], turn["q"]) == ("Which?", 0.0, None)
    assert turn["utterance"].startswith("word") and turn["logprobs"] == [pytest.approx(-0.1), -2.0]
    assert game["judged_by"] is None  # there is no checkpoint yet


def test_pages_and_answers_over_http(run: Path) -> None:
    client = _client(run, run)
    assert b"archer" in client.get("/", **HERE).data
    told = client.get("/api/runs", **HERE).get_json()
    assert set(told["runs"]) == {"0", "1"} and told["differences"] == {}
    found = client.get("/api/runs/1/episodes?sort=return&limit=2&text=&least=", **HERE).get_json()
    assert found["count"] == 14 and len(found["rows"]) == 2
    place = found["rows"][0]
    game = client.get(f"/api/runs/1/episodes/train/{place['iteration']}/{place['row']}", **HERE).get_json()
    assert game["return"] == 0.0
    for address, code in (
        ("/api/runs/7/episodes", 404),
        ("/api/runs/0/episodes?sort=turns", 400),
        ("/api/runs/0/episodes?limit=many", 400),
        ("/api/runs/0/episodes?limit=100000", 400),
        ("/api/runs/0/episodes?path=/etc/passwd", 400),
        ("/api/runs/0/episodes/train/9/0", 404),
        ("/api/runs/0/episodes/train/1/100", 404),
        ("/api/runs/0/episodes/..%2f..%2f/1/0", 404),
        ("/static/../data.py", 404),
    ):
        assert client.get(address, **HERE).status_code == code, address


def test_a_port_that_is_taken_is_named(run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=rf"--port: {port} cannot be served on .*; 0 takes a free one"):
            serve([run], port)


def test_it_answers_to_its_own_name_and_pages_only(run: Path) -> None:
    client = _client(run)
    assert client.get("/", base_url="http://localhost:8765").status_code == 200
    assert client.get("/api/runs", base_url="http://evil.example:8765").status_code == 403
    assert client.get("/api/runs", headers={"Origin": "http://evil.example"}, **HERE).status_code == 403
    answer = client.get("/api/runs", headers={"Origin": "http://127.0.0.1:8765"}, **HERE)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "script" not in answer.headers["Content-Security-Policy"]  # no inline scripts, nor from elsewhere


def test_a_file_holds_everything_and_no_hostile_text_gets_out_of_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.html"
    main(["view", str(run), "--export", str(out), "--games", "20"])
    assert str(out) in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert "/static/" not in page.replace("/static/", "", 0) or (
        'src="/static/' not in page and 'href="/static/' not in page
    )
    assert "<img src=x" not in page and HOSTILE not in page
    assert not re.search(r'(src|href)="https?://', page)
    held = re.search(r'<script type="application/json" id="held">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    data = json.loads(held[1])
    assert data["runs"]["runs"]["0"]["iterations"] == [0, 1, 2, 2]
    assert len(data["episode"]) == 15  # 14 that were learned from, and the start's
    assert any(HOSTILE in json.dumps(game) for game in data["episode"].values())
    assert data["critic"]["0"] == {"missing": "This run has no checkpoint yet, and so no critic to ask."}
    assert not re.search(r"^(import|export) ", page, re.MULTILINE)  # opened from disk, a module can import no other


def test_settings_that_differ() -> None:
    one, other = {"a": {"b": 1, "c": [2]}, "d": None}, {"a": {"b": 1, "c": [3]}, "d": None}
    assert differences([one, other]) == {"a.c": [[2], [3]]}
    assert differences([one]) == {}


def test_queries_are_read_strictly() -> None:
    assert query_of({"sort": "return", "descending": "0", "least": "-1.5"}) == Query(
        sort="return", descending=False, least=-1.5
    )
    with pytest.raises(ValueError, match="unknown 'folder'"):
        query_of({"folder": "x"})
    with pytest.raises(ValueError, match="limit"):
        Query(limit=0)
    with pytest.raises(ValueError, match="source"):
        Query(source="secret")


def test_pictures_of_a_critic_by_hand() -> None:
    # Twenty turns, each a game: Q = 0..19, V = Q + 0.5 for the first five and Q - 1 for the others, twice Q came.
    q = np.arange(20.0)
    v = np.where(q < 5, q + 0.5, q - 1)
    turns = ValuedTurns(np.stack([q, q + 3], axis=1), v, 2 * q, np.zeros(20), np.arange(20), np.ones(20, np.int64))
    found = pictures(turns)
    assert [bin["q"] for bin in found["calibration"]] == [0.5 + 2 * n for n in range(10)]
    assert [bin["return"] for bin in found["calibration"]] == [1 + 4.0 * n for n in range(10)]
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    assert edges[0] <= -0.5 and edges[-1] >= 1 and 0.0 in edges  # no bar is on both sides of zero
    assert [(edge, count) for edge, count in zip(edges, counts, strict=False) if count] == [
        (pytest.approx(-0.5), 5),
        (pytest.approx(1 - 1.5 / 24), 15),
    ]
    alike = pictures(turns.only(q >= 5).only(np.arange(15) < 1))["histogram"]
    assert sum(alike["counts"]) == 1


def test_a_critic_is_examined_once_for_each_checkpoint(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*found: Any) -> Any:
        calls.append(1)
        return examine_episodes(*found)

    monkeypatch.setattr("archer.view.critic.examine_episodes", counted)
    judge_of.cache_clear()
    view = RunView(trained)
    page = critic_page(view)
    assert critic_page(view, "final") is page and calls == [1]
    assert page["judged_on"] == "the 30 games of the evaluation at the end, which were never trained on"
    run = archer.load(trained)
    expected = examine_episodes(run, load_critic(run), read_shard(trained / "final.parquet"))
    assert page["verdict"] == str(expected.diagnosis.verdict) and page["turns"] == expected.health.turns == 60
    newest = critic_page(view, "train")
    assert (
        "the 48 newest games of training (iterations 1 to 2), which the critic has learned from" in newest["judged_on"]
    )
    assert critic_page(view, "elsewhere") == {"missing": "There are no games to judge by yet."}


def test_the_best_and_the_worst_are_those_that_the_games_show(trained: Path) -> None:
    view = RunView(trained)
    page = critic_page(view, "final")
    games = [view.episode("final", row["iteration"], row["row"]) for row in view.episodes(Query("final"))["rows"]]
    gaps = [turn["q"] - turn["v"] for game in games for turn in game["turns"]]
    best, worst = page["best"][0], page["worst"][0]
    assert best["q"] - best["v"] == pytest.approx(max(gaps), abs=1e-4)
    assert worst["q"] - worst["v"] == pytest.approx(min(gaps), abs=1e-4)
    game = view.episode(best["source"], best["iteration"], best["row"])
    assert game["turns"][best["turn"] - 1]["utterance"] == best["utterance"]


def test_siblings_are_drawn_on_request_and_ranked(trained: Path) -> None:
    client = _client(trained)
    address = "/api/runs/0/episodes/final/0/1/1/siblings"
    found = client.post(address, json={"count": 6}, **HERE).get_json()
    assert (found["drawn"], found["iteration"], found["judged"]) == (6, 2, True)
    assert sum(one["times"] for one in found["ranked"]) == 6
    qs = [one["q"] for one in found["ranked"]]
    assert qs == sorted(qs, reverse=True)
    played = client.get("/api/runs/0/episodes/final/0/1", **HERE).get_json()["turns"][1]
    (said,) = [one for one in found["ranked"] if one["said"]]
    assert said["utterance"] == played["utterance"]
    assert (said["q"], said["v"]) == (pytest.approx(played["q"], abs=1e-4), pytest.approx(played["v"], abs=1e-4))
    assert client.post(address, json={"count": 6}, **HERE).get_json() == found
    assert client.post(address, json={"count": 6, "draw": 1}, **HERE).get_json() != found
    for path, content, code in (
        (address, {"count": 33}, 400),
        (address, {"count": "6"}, 400),
        (address, {"draw": -1}, 400),
        (address.replace("/1/siblings", "/2/siblings"), {}, 404),  # it has two turns
        (address.replace("final", "nowhere"), {}, 404),
    ):
        assert client.post(path, json=content, **HERE).status_code == code, (path, content)


def test_a_person_plays_the_agent(trained: Path) -> None:
    client = _client(trained)
    begun = client.post("/api/runs/0/play", json={"side": "agent", "seed": 3, "count": 5}, **HERE).get_json()
    assert (begun["observation"], begun["turns"], begun["end"]) == ("First?", [], None)
    assert sum(one["times"] for one in begun["candidates"]) == 5
    assert [one["chosen"] for one in begun["candidates"]].count(True) == 1
    address = f"/api/play/{begun['id']}"
    said = client.post(address, json={"turn": 0, "say": "red"}, **HERE).get_json()
    assert client.get(address, **HERE).get_json() == said
    assert (said["turns"][0]["utterance"], said["turns"][0]["by"], said["observation"]) == ("red", "you", "Then?")
    assert said["turns"][0]["v"] == pytest.approx(begun["v"], abs=1e-5)
    for content in (
        {"turn": 0, "say": "red"},  # a second click
        {"turn": 1},
        {"turn": 1, "pick": 99},
        {"turn": 1, "pick": True},
        {"turn": 1, "say": 7},
        {"turn": 1, "say": "red\nblue"},  # this layout has one line
        {"turn": 1, "say": "red " * 400},
        ["turn", 1],
    ):
        assert client.post(address, json=content, **HERE).status_code == 400, content
    over = client.post(address, json={"turn": 1, "pick": 0}, **HERE).get_json()
    assert (over["end"], over["return"], over["candidates"]) == ("terminated", 1.0, [])  # the first word was red
    assert over["turns"][1]["utterance"] == said["candidates"][0]["utterance"]
    assert client.post(address, json={"turn": 2, "step": True}, **HERE).status_code == 400


def test_a_person_plays_the_environment_and_the_critic_chooses(trained: Path) -> None:
    client = _client(trained)
    wishes = {"side": "environment", "best": True, "first": HOSTILE}
    begun = client.post("/api/runs/0/play", json=wishes, **HERE).get_json()
    assert begun["observation"] == HOSTILE
    assert [one["chosen"] for one in begun["candidates"]].index(True) == 0  # the favourite is said
    address = f"/api/play/{begun['id']}"
    answered = client.post(address, json={"turn": 0, "answer": "Go on."}, **HERE).get_json()
    assert answered["turns"][0]["utterance"] == begun["candidates"][0]["utterance"]
    assert (answered["turns"][0]["by"], answered["observation"]) == ("agent", "Go on.")
    over = client.post(address, json={"turn": 1, "answer": "Bye.", "over": True}, **HERE).get_json()
    assert (over["end"], over["observation"], len(over["turns"])) == ("terminated", "Bye.", 2)


def test_what_a_page_sends_is_checked(trained: Path, run: Path) -> None:
    client = _client(trained, run)
    address = "/api/runs/0/play"
    assert client.post(address, json={}, base_url="http://evil.example:8765").status_code == 403
    assert client.post(address, json={}, headers={"Origin": "http://evil.example"}, **HERE).status_code == 403
    assert client.post(address, data={"side": "agent"}, **HERE).status_code == 415  # as another page's form would
    assert client.post(address, data="{", content_type="application/json", **HERE).status_code == 400
    assert client.post(address, json={"first": "x" * 100_000}, **HERE).status_code == 413
    for wishes in ({"side": "both"}, {"seed": -1}, {"seed": 0.5}, {"seed": True}, {"count": 0}, {"count": 33}):
        assert client.post(address, json=wishes, **HERE).status_code == 400, wishes
    answer = client.post("/api/runs/1/play", json={}, **HERE)
    assert (answer.status_code, answer.is_json) == (404, True)  # no checkpoint yet
    assert client.get("/api/play/nobody", **HERE).status_code == 404
    assert client.get(address, **HERE).status_code == 405


def test_old_games_make_room(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST", 2)
    client = _client(trained)
    names = [client.post("/api/runs/0/play", json={"count": 1}, **HERE).get_json()["id"] for _ in range(2)]
    client.get(f"/api/play/{names[0]}", **HERE)  # used again: the other is the oldest now
    names.append(client.post("/api/runs/0/play", json={"count": 1}, **HERE).get_json()["id"])
    assert [client.get(f"/api/play/{name}", **HERE).status_code for name in names] == [200, 404, 200]


def test_an_environment_that_fails_is_named_and_may_be_tried_again(trained: Path) -> None:
    run = archer.load(trained)
    broken = Misbehaving("raise")
    sitting = Sitting(Advisor(run, None), lambda: broken, seed=2)
    with pytest.raises(EnvironmentFailure, match="the shop is closed"):
        sitting.say(sitting.typed("red"))
    assert (sitting.turns, sitting.end, sitting.scores) == ([], None, [])
    broken.fault = ""
    sitting.say(sitting.typed("red"))
    assert (sitting.observation, sitting.scores) == ("You said 1 words.", [None])
