"""A clerk at the desk: exact, or forgetful as people are."""

from __future__ import annotations

import json
import random
import re

from archer.envs.service_desk.policy import DAYS, LIMIT
from archer.types import Observation

ASK = "What is your e-mail address?"
REFUSE = "I am sorry, that is not possible."


class Clerk:
    """Asks for the e-mail address, looks up customer and order, does what the policy says, tells it and closes.

    chance: where it comes from is a forgetful clerk: who skips the look-up, does not heed dates, prices or states, does
    another thing, or talks on.
    """

    def __init__(self, chance: random.Random | None) -> None:
        self._chance = chance
        self._wish, self._item, self._city = "", "", ""
        self._customer, self._tier = 0, "basic"
        self._stage = "greet"

    def __call__(self, observation: Observation) -> str:
        assert not isinstance(observation, str), "the desk speaks in messages"
        heard = observation[-1]["content"]
        if self._slips(0.05):
            return random.Random(heard).choice(("Hello.", "Which order is it?", REFUSE))
        match self._stage:
            case "greet":
                return self._greet(heard)
            case "look_up":
                return self._look_up(heard)
            case "list":
                return self._list(heard)
            case "act":
                return self._act(heard)
        return _call("close")

    def _slips(self, share: float) -> bool:
        return self._chance is not None and self._chance.random() < share

    def _greet(self, heard: str) -> str:
        for wish, pattern in (
            ("cancel", r"not want the (\w+)"),
            ("refund", r"money back for the (\w+)"),
            ("move", r"send the (\w+) to (\w+)"),
            ("status", r"Where is my (\w+)"),
        ):
            if found := re.search(pattern, heard):
                self._wish, self._item = wish, found[1]
                self._city = found[2] if wish == "move" else ""
        self._stage = "look_up"
        return ASK

    def _look_up(self, heard: str) -> str:
        found = re.search(r"\S+@\S+\w", heard)
        if found is None:
            return ASK
        self._stage = "list"
        return _call("customer", email=found[0])

    def _list(self, heard: str) -> str:
        try:
            told = json.loads(heard)
            self._customer, self._tier = told["customer"], told["tier"]
        except (ValueError, KeyError, TypeError):
            return ASK
        self._stage = "act"
        return _call("order", customer=self._customer, item=self._item)

    def _act(self, heard: str) -> str:
        try:
            order = json.loads(heard)
            number, state = order["id"], order["status"]
        except (ValueError, TypeError, KeyError):
            return _call("order", customer=self._customer, item=self._item)
        self._stage = "close"
        careless = self._slips(0.35)
        if self._wish == "status":
            return f"It is {state}."
        if self._wish in ("cancel", "move"):
            if state != "processing" and not careless:
                return REFUSE
            return (
                _call("cancel", order=number)
                if self._wish == "cancel"
                else _call("move", order=number, city=self._city)
            )
        if (state != "delivered" or order["days"] > DAYS[self._tier]) and not careless:
            return REFUSE
        return _call("escalate" if order["price"] > LIMIT and not self._slips(0.5) else "refund", order=number)


def _call(tool: str, **arguments: object) -> str:
    return json.dumps({"tool": tool, **arguments})
