"""The shop's records: a real SQLite database in memory, and the tools that look them up and change them."""

from __future__ import annotations

import json
import random
import sqlite3
from dataclasses import dataclass

NAMES = (
    "Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ivy", "Jack", "Kim", "Leo", "Mia", "Ned", "Olga",
    "Paul", "Quinn", "Rosa", "Sam", "Tina", "Uma", "Vera", "Walt", "Zoe",
)  # fmt: skip
ITEMS = {
    "lamp": 40,
    "chair": 90,
    "desk": 180,
    "sofa": 450,
    "rug": 70,
    "shelf": 110,
    "bed": 600,
    "clock": 25,
    "mirror": 60,
}
CITIES = ("Oslo", "Rome", "Lyon", "Cork", "Bern", "Graz")
STATES = ("processing", "shipped", "delivered")

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, tier TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers, item TEXT, price INTEGER,
                     status TEXT, days INTEGER, city TEXT);
"""


class ToolError(ValueError):
    """A tool was called in a way that it does not know; the message says what it would."""


@dataclass(frozen=True)
class Order:
    """A row of the table of orders; ``days`` since it was delivered, 0 before."""

    id: int
    customer: int
    item: str
    price: int
    status: str
    days: int
    city: str


class Database:
    """A few customers with a few orders each."""

    def __init__(self, chance: random.Random) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.executescript(SCHEMA)
        names = chance.sample(NAMES, 3)
        order = chance.randint(100, 900)
        for number, name in enumerate(names, start=1):
            tier = "gold" if chance.random() < 0.3 else "basic"
            row = (number, name, f"{name.lower()}{chance.randint(10, 99)}@mail.org", tier)
            self._connection.execute("INSERT INTO customers VALUES (?, ?, ?, ?)", row)
            for item in chance.sample(list(ITEMS), 2):
                order += chance.randint(1, 9)
                status = chance.choice(STATES)
                days = chance.choice((5, 20, 40, 50, 90)) if status == "delivered" else 0
                placed = (order, number, item, ITEMS[item], status, days, chance.choice(CITIES))
                self._connection.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", placed)

    def customers(self) -> list[tuple[int, str, str, str]]:
        """id, name, email and tier of all."""
        return list(self._connection.execute("SELECT id, name, email, tier FROM customers ORDER BY id"))

    def orders(self, customer: object) -> list[Order]:
        """A customer's orders; none where there is no customer of that number."""
        if not _is_number(customer):
            return []
        rows = self._connection.execute("SELECT * FROM orders WHERE customer = ? ORDER BY id", (customer,))
        return [Order(*row) for row in rows]

    def order(self, number: object) -> Order:
        """One order; ToolError where there is none of that number."""
        if _is_number(number):
            row = self._connection.execute("SELECT * FROM orders WHERE id = ?", (number,)).fetchone()
            if row is not None:
                return Order(*row)
        raise ToolError(f"no order {json.dumps(number)}")

    def set(self, order: int, **changes: str) -> None:
        """Change fields of an order."""
        for field, value in changes.items():
            assert field in ("status", "city"), "no other field is ever changed"
            self._connection.execute(f"UPDATE orders SET {field} = ? WHERE id = ?", (value, order))

    def snapshot(self) -> list[tuple[object, ...]]:
        """All orders as they are."""
        return list(self._connection.execute("SELECT * FROM orders ORDER BY id"))

    def __getstate__(self) -> bytes:
        return self._connection.serialize()

    def __setstate__(self, state: bytes) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.deserialize(state)


def _is_number(value: object) -> bool:
    """Whether SQLite takes it for a row's number."""
    return type(value) is int and abs(value) < 1 << 62


def find_customer(database: Database, email: object) -> tuple[int, str]:
    """Number and tier of the customer with an e-mail address."""
    for number, _, known, tier in database.customers():
        if known == email:
            return number, tier
    raise ToolError("no such customer")


def parse_call(text: str) -> dict[str, object]:
    """A tool call, ``{"tool": NAME, ...}``; ToolError where it is none."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        raise ToolError('not JSON; a call is {"tool": "close"}') from None
    if not isinstance(call, dict) or call.get("tool") not in TOOLS:
        raise ToolError(f"no such tool; there are {', '.join(TOOLS)}")
    wanted = TOOLS[str(call["tool"])]
    if set(call) != {"tool", *wanted}:
        raise ToolError(f"{call['tool']} takes {', '.join(wanted) or 'nothing'}")
    return call


TOOLS: dict[str, tuple[str, ...]] = {
    "customer": ("email",),
    "order": ("customer", "item"),
    "cancel": ("order",),
    "refund": ("order",),
    "move": ("order", "city"),
    "escalate": ("order",),
    "close": (),
}
"""What an agent can call, with the arguments that each wants."""
