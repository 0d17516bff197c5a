"""The written policy, and what it makes of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archer.envs.service_desk.database import Order

POLICY = (
    "You serve customers of a furniture shop. Look up every customer by e-mail first. Say how an order stands when "
    "asked. Cancel while an order is processing. Move it to another city while it is processing. Refund what was "
    "delivered at most 30 days ago, for gold customers 60; above 200 escalate instead. Refuse everything else. Close "
    "when you are done."
)
DAYS = {"basic": 30, "gold": 60}
LIMIT = 200
"""Price above which a refund is not the desk's business."""

Wish = Literal["cancel", "refund", "move", "status"]
WISHES: tuple[Wish, ...] = ("cancel", "refund", "refund", "move", "status")
"""What customers come for, as often as it stands here."""
GRANTED = 0.75
"""Share of changes asked for that the policy grants, where orders allow it: nobody gets by on refusing."""


@dataclass(frozen=True)
class Request:
    """What a customer wants, of which the desk hears only what it asks for."""

    wish: Wish
    order: int
    city: str = ""
    """Where to, for ``move``."""


def due(request: Request, order: Order, tier: str) -> dict[str, str]:
    """The changes to the order that the policy asks for: none where it refuses."""
    match request.wish:
        case "cancel" if order.status == "processing":
            return {"status": "cancelled"}
        case "move" if order.status == "processing":
            return {"city": request.city}
        case "refund" if order.status == "delivered" and order.days <= DAYS[tier]:
            return {"status": "escalated" if order.price > LIMIT else "refunded"}
    return {}
