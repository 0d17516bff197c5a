"""A service desk (the customer-support and tool-use task that the ArCHer paper names as its aim)."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from functools import lru_cache

from archer.envs.base import Player, play_scripted
from archer.envs.game import Game, Reply
from archer.envs.service_desk.database import CITIES, Database, ToolError, find_customer, parse_call
from archer.envs.service_desk.players import Clerk
from archer.envs.service_desk.policy import GRANTED, POLICY, WISHES, Request, due
from archer.types import Observation

STEP = 0.02
"""What every utterance costs, so that nobody is kept waiting."""


class ServiceDesk(Game):
    """At the end 1 for a customer served by the policy, -0.5 for every change that breaks it, -0.02 a turn.

    Served is who was looked up, whose records are as the policy wants them, and who was told what they asked. An
    utterance that begins with ``{`` is a call of a tool, ``{"tool": "refund", "order": 105}``; anything else is said to
    the customer, who tells the e-mail address and the order when asked. ``{"tool": "close"}`` ends the conversation.
    max_turns: utterances of a conversation, at least 1.
    """

    def __init__(self, max_turns: int = 12) -> None:
        super().__init__(max_turns)
        self._database: Database | None = None
        self._request = Request("status", 0)
        self._wanted: list[tuple[object, ...]] = []
        self._email = ""
        self._state = ""
        self._known: set[int] = set()
        self._told = False

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """A customer with a request comes to a desk with records of its own."""
        self._database = database = Database(chance)
        wish, granted = chance.choice(WISHES), chance.random() < GRANTED
        orders = [(customer, order) for customer in database.customers() for order in database.orders(customer[0])]
        chance.shuffle(orders)
        fitting = (one for one in orders if bool(due(Request(wish, 0, "elsewhere"), one[1], one[0][3])) == granted)
        (_, name, self._email, tier), order = next(fitting, orders[0])
        city = chance.choice([city for city in CITIES if city != order.city])
        self._request = Request(wish, order.id, city if wish == "move" else "")
        self._state, self._known, self._told = order.status, set(), wish != "status"
        changes = due(self._request, order, tier)
        before = {field: getattr(order, field) for field in changes}
        database.set(order.id, **changes)
        self._wanted = database.snapshot()
        database.set(order.id, **before)
        asks = {
            "cancel": f"I do not want the {order.item} any more.",
            "refund": f"I want my money back for the {order.item}.",
            "move": f"Please send the {order.item} to {city}.",
            "status": f"Where is my {order.item}?",
        }[wish]
        return [{"role": "system", "content": POLICY}, {"role": "user", "content": f"I am {name}. {asks}"}]

    def hear(self, utterance: str) -> Reply:
        """Run a tool, or let the customer answer."""
        assert self._database is not None, "begun"
        text = utterance.strip()
        if not text.startswith("{"):
            return Reply(_message("user", self._answer(text.lower())), -STEP, info={"success": False})
        try:
            call = parse_call(text)
            if call["tool"] == "close":
                right = bool(self._known) and self._told and self._database.snapshot() == self._wanted
                told = "Thank you." if right else "That is not what was due."
                return Reply(_message("user", told), float(right) - STEP, over=True, info={"success": right})
            result, broken = self._run(call, self._database)
        except ToolError as error:
            return Reply(_message("tool", f"error: {error}"), -STEP, info={"success": False})
        return Reply(_message("tool", json.dumps(result)), -0.5 * broken - STEP, info={"success": False})

    def _run(self, call: Mapping[str, object], database: Database) -> tuple[object, bool]:
        """What a tool answers, and whether its use broke the policy."""
        if call["tool"] == "customer":
            number, tier = find_customer(database, call["email"])
            if call["email"] == self._email:
                self._known.add(number)
            return {"customer": number, "tier": tier}, False
        if call["tool"] == "order":
            order = next((order for order in database.orders(call["customer"]) if order.item == call["item"]), None)
            if order is None:
                raise ToolError(f"customer {json.dumps(call['customer'])} has ordered no {json.dumps(call['item'])}")
            return {field: getattr(order, field) for field in ("id", "price", "status", "days", "city")}, False
        order = database.order(call["order"])
        changes = {
            "cancel": {"status": "cancelled"},
            "refund": {"status": "refunded"},
            "escalate": {"status": "escalated"},
            "move": {"city": str(call.get("city"))[:40]},
        }[str(call["tool"])]
        database.set(order.id, **changes)
        tier = next(tier for number, _, _, tier in database.customers() if number == order.customer)
        allowed = order.id == self._request.order and changes == due(self._request, order, tier)
        return "done", not (allowed and order.customer in self._known)

    def _answer(self, said: str) -> str:
        """The customer tells what is asked for, and nothing else; one who asked how an order stands listens for it."""
        if self._request.wish == "status" and self._known and self._state in said:
            self._told = True
            return "I see."
        if "mail" in said:
            return f"It is {self._email}."
        if "order" in said or "number" in said:
            return f"It is order {self._request.order}."
        return "Can you do that?"

    def demonstrator(self, seed: int) -> Player:
        """A clerk who now and then forgets a step of the policy."""
        return Clerk(random.Random(seed))

    def reference(self, seed: int) -> Player:
        """A clerk who keeps to the policy; ``seed`` is not used."""
        return Clerk(None)

    def reference_return(self) -> float:
        """Mean return of the reference over 300 conversations."""
        return _reference_return(self.max_turns)


def _message(role: str, content: str) -> Observation:
    return [{"role": role, "content": content}]


@lru_cache
def _reference_return(max_turns: int) -> float:
    env = ServiceDesk(max_turns)
    return sum(play_scripted(env, Clerk(None), seed).return_ for seed in range(300)) / 300
