"""`archer view`: what its pages ask for, whom it answers, and the file that opens without it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archer.cli import main
from archer.config import RunConfig
from archer.files import write_json, write_text
from archer.settings import to_yaml
from archer.storage import shard_path, write_shard
from archer.types import End, Episode, Turn, Utterance
from archer.view.data import Query, RunView, differences
from archer.view.server import create_app, query_of

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
    assert found["iterations"] == [0, 1, 2] and found["config"]["seed"] == 3
    assert found["metrics"]["rollout/return_mean"] == [None, -8.0, -7.0]
    assert found["metrics"]["critic/q_loss"] == [None, None, None]
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
    assert data["runs"]["runs"]["0"]["iterations"] == [0, 1, 2]
    assert len(data["episode"]) == 15  # 14 that were learned from, and the start's
    assert any(HOSTILE in json.dumps(game) for game in data["episode"].values())


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
