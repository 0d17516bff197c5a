"""The service desk: records, policy, rewards; what the customer tells, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import random

import pytest

from archer.envs.base import play_scripted
from archer.envs.service_desk.database import Database, Order, ToolError, parse_call
from archer.envs.service_desk.env import ServiceDesk
from archer.envs.service_desk.players import Clerk
from archer.envs.service_desk.policy import Request, due

LAMP = Order(101, 1, "lamp", 40, "delivered", 20, "Oslo")


@pytest.mark.parametrize(
    ("request_", "changed", "tier", "wanted"),
    [
        (Request("refund", 101), {}, "basic", {"status": "refunded"}),
        (Request("refund", 101), {"days": 31}, "basic", {}),
        (Request("refund", 101), {"days": 31}, "gold", {"status": "refunded"}),
        (Request("refund", 101), {"days": 61}, "gold", {}),
        (Request("refund", 101), {"price": 201}, "basic", {"status": "escalated"}),
        (Request("refund", 101), {"status": "shipped"}, "basic", {}),
        (Request("cancel", 101), {"status": "processing"}, "basic", {"status": "cancelled"}),
        (Request("cancel", 101), {"status": "shipped"}, "gold", {}),
        (Request("move", 101, "Rome"), {"status": "processing"}, "basic", {"city": "Rome"}),
        (Request("move", 101, "Rome"), {"status": "delivered"}, "basic", {}),
        (Request("status", 101), {}, "basic", {}),
    ],
)
def test_what_the_policy_makes_of_a_request(
    request_: Request, changed: dict[str, object], tier: str, wanted: dict[str, str]
) -> None:
    assert due(request_, dataclasses.replace(LAMP, **changed), tier) == wanted  # type: ignore[arg-type]


def test_the_exact_clerk_is_always_right() -> None:
    env = ServiceDesk()
    games = [play_scripted(env, Clerk(None), seed) for seed in range(200)]
    assert all(game.success and game.terminated for game in games)
    assert {len(game.utterances) for game in games} == {5}  # ask, look up, list, do or refuse, close
    assert {round(game.return_, 9) for game in games} == {0.9}  # 1 - 5 · 0.02


def _desk(does: str) -> tuple[ServiceDesk, str, str]:
    """A desk where the exact clerk does something that begins so: what it is, and the customer's e-mail address."""
    for seed in range(0, 2000, 2):
        env = ServiceDesk()
        game = play_scripted(env, Clerk(None), seed)
        if game.utterances[3].startswith(does):
            env.reset(seed=seed)
            return env, game.utterances[3], json.loads(game.utterances[1])["email"]
    raise AssertionError("no such customer")


def _refundable() -> tuple[ServiceDesk, int, str]:
    """A desk whose customer is to be refunded: the order and the e-mail address."""
    env, call, email = _desk('{"tool": "refund"')
    return env, json.loads(call)["order"], email


def call(tool: str, **arguments: object) -> str:
    return json.dumps({"tool": tool, **arguments})


def test_a_change_before_the_customer_is_looked_up_breaks_the_policy() -> None:
    env, order, email = _refundable()
    assert env.step(call("refund", order=order))[1] == pytest.approx(-0.52)
    env.step(call("customer", email=email))
    answer, reward, over, *_ = env.step(call("close"))
    assert answer == [{"role": "user", "content": "Thank you."}] and over
    assert reward == pytest.approx(0.98)


def test_a_wrong_change_breaks_the_policy_and_is_wrong_in_the_end() -> None:
    env, order, email = _refundable()
    env.step(call("customer", email=email))
    assert env.step(call("cancel", order=order))[1] == pytest.approx(-0.52)
    assert env.step(call("close"))[1] == pytest.approx(-0.02)


def test_who_does_nothing_serves_nobody() -> None:
    for does in ("I am sorry", "It is", '{"tool": "move"'):
        env, _, email = _desk(does)
        assert env.step(call("close"))[1] == pytest.approx(-0.02)
        env, _, email = _desk(does)
        env.step(call("customer", email=email))
        # Looked up and sent away: right for those alone who are to be refused.
        assert env.step(call("close"))[1] == pytest.approx(0.98 if does == "I am sorry" else -0.02)


def test_most_requests_are_granted() -> None:
    env = ServiceDesk()
    done = [play_scripted(env, Clerk(None), seed).utterances[3] for seed in range(1000)]
    changes = sum(call.startswith("{") for call in done)
    assert 440 < changes < 520  # of 800 who ask for a change, 600 if every shop had an order that allows it


def test_who_asks_how_an_order_stands_wants_to_hear_it_from_one_who_knows_them() -> None:
    for looks_up, says, served in (
        (True, "It is {}.", True),
        (True, "Your order is {}, sir", True),
        (True, "Goodbye", False),
        (False, "It is {}.", False),
    ):
        env, answer, email = _desk("It is")
        state = answer.removeprefix("It is ").removesuffix(".")
        if looks_up:
            env.step(call("customer", email=email))
        heard = env.step(says.format(state))[0]
        assert (heard == [{"role": "user", "content": "I see."}]) is served
        env.step(call("customer", email=email))
        assert (env.step(call("close"))[1] > 0.9) is served


def test_the_customer_tells_what_is_asked_for() -> None:
    env, order, email = _refundable()
    assert env.step("Could you tell me your e-mail?")[0] == [{"role": "user", "content": f"It is {email}."}]
    assert env.step("And the order number?")[0] == [{"role": "user", "content": f"It is order {order}."}]
    assert env.step("Hello")[0] == [{"role": "user", "content": "Can you do that?"}]


@pytest.mark.parametrize(
    "text",
    [
        "{", "[1]", '{"tool": "drop"}', '{"tool": "refund"}', '{"tool": "refund", "order": 1, "all": true}', "{" * 5000,
        '{"tool": "refund", "order": "1; DROP TABLE orders"}', '{"tool": "refund", "order": 99999999999999999999999}',
        '{"tool": "refund", "order": true}', '{"tool": "customer", "email": ["x"]}',
        '{"tool": "order", "customer": null, "item": "lamp"}', '{"tool": "order", "customer": 1, "item": ["lamp"]}',
        '{"tool": "order", "customer": 99999999999999999999999, "item": "lamp"}', '{"tool": "order", "customer": 1}',
    ],
)  # fmt: skip
def test_a_wrong_call_is_an_error_for_the_agent_and_changes_nothing(text: str) -> None:
    env, _, _ = _refundable()
    before = env._database.snapshot() if env._database else []
    observation, reward, over, _, _ = env.step(text)
    if text.startswith("{"):
        assert isinstance(observation, list) and observation[0]["role"] == "tool"
        assert observation[0]["content"].startswith("error: ")
    assert reward == pytest.approx(-0.02) and not over
    assert env._database is not None and env._database.snapshot() == before


def test_calls_are_read_strictly() -> None:
    assert parse_call('{"tool": "close"}') == {"tool": "close"}
    with pytest.raises(ToolError, match="takes order, city"):
        parse_call('{"tool": "move", "order": 1}')


def test_every_desk_has_records_of_its_own() -> None:
    desks = [Database(random.Random(seed)).customers() for seed in range(100)]
    emails = [row[2] for rows in desks for row in rows]
    assert len(set(emails)) > 270  # 24 names with 90 numbers: hardly one of 300 twice, so it must be read, not known


def test_a_desk_is_pickled_with_its_records() -> None:
    env, order, email = _refundable()
    copy = pickle.loads(pickle.dumps(env))
    for desk in (env, copy):
        assert desk.step(call("customer", email=email))[0] == copy_told(desk, email)
        assert desk.step(call("refund", order=order))[1] == pytest.approx(-0.02)
        assert desk.step(call("close"))[1] == pytest.approx(0.98)


def copy_told(desk: ServiceDesk, email: str) -> list[dict[str, str]]:
    assert desk._database is not None
    number, tier = next((row[0], row[3]) for row in desk._database.customers() if row[2] == email)
    return [{"role": "tool", "content": json.dumps({"customer": number, "tier": tier})}]
