"""A small web shop after WebShop (Yao et al. 2022, arXiv 2207.01206), which the ArCHer paper trains on (section 5)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import lru_cache

from archer.envs.base import Player, play_scripted
from archer.envs.game import Game, Reply, at_least
from archer.envs.web_shop.catalogue import HELD_OUT, Goal, Product, goals, products, reward, search
from archer.envs.web_shop.players import Buyer
from archer.types import Observation

BACK, PREVIOUS, NEXT, BUY, FEATURES = "Back to Search", "< Prev", "Next >", "Buy Now", "Features"
ACTION = re.compile(r"\s*(search|click)\s*\[([^\]]*)\]\s*", re.IGNORECASE)
"""WebShop's two actions, with what they are about."""


class WebShop(Game):
    """0 until something is bought, then WebShop's reward, from 0 to 1.

    Actions are ``search[words]`` on the first page and ``click[...]`` on what a page shows in brackets; anything else
    is answered ``Invalid action!``. Games with even seeds have 11,500 instructions, those of evaluations 500 others.
    max_turns: actions of a game; the original has 10.
    shown: products on a page of results; ArCHer's has 3.
    """

    def __init__(self, max_turns: int = 10, shown: int = 3) -> None:
        super().__init__(max_turns)
        self._shown = at_least("shown", shown, 1)
        self._goal: Goal = goals()[0]
        self._results: tuple[str, ...] | None = None
        """Codes that were found; None on the first page."""
        self._page = 0
        self._product: Product | None = None
        self._chosen: frozenset[str] = frozenset()
        self._features = self._bought = False

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Draw an instruction, or take number ``options["goal"]``."""
        number = options.get("goal")
        if number is None:
            known = len(goals()) - HELD_OUT
            number = chance.randrange(known, len(goals())) if held_out else chance.randrange(known)
        if type(number) is not int or not 0 <= number < len(goals()):
            raise ValueError(f"options: goal must be a number from 0 to {len(goals()) - 1}, got {number!r}")
        self._goal = goals()[number]
        self._home()
        return f"{self._goal.text} {self.page()}"

    def hear(self, utterance: str) -> Reply:
        """Search or click."""
        action = ACTION.fullmatch(utterance)
        if action is None or not self.act(action[1].lower(), action[2].strip()):
            return Reply(f"Invalid action! {self.page()}", 0.0, info={"success": False})
        if self._bought:
            assert self._product is not None, "only its page can be bought from"
            gained = reward(self._goal, self._product, self._chosen)
            return Reply("Thank you for shopping.", gained, over=True, info={"success": gained == 1.0})
        return Reply(self.page(), 0.0, info={"success": False})

    def act(self, kind: str, what: str) -> bool:
        """Follow a link or search; whether the page has it."""
        if kind == "search":
            if self._results is not None or not what:
                return False
            self._results, self._page = search(what), 0
            return True
        link = next((link for link in self.links() if link.lower() == what.lower()), None)
        if link is None:
            return False
        if link == BACK:
            self._home()
        elif link == BUY:
            self._bought = True
        elif link == FEATURES:
            self._features = True
        elif link == NEXT:
            self._page += 1
        elif link == PREVIOUS:
            self._leave()
        elif self._product is None:
            self._product, self._chosen = products()[link], frozenset()
        else:
            same = self._product.colours if link in self._product.colours else self._product.sizes
            self._chosen = self._chosen - set(same) | {link}
        return True

    def links(self) -> tuple[str, ...]:
        """What can be clicked on the page."""
        if self._results is None:
            return ()
        if self._product is None:
            at, shown = self._page * self._shown, self._shown
            here = self._results[at : at + shown]
            more = (NEXT,) if len(self._results) > at + shown else ()
            less = (PREVIOUS,) if self._page else ()
            return (*here, *less, *more, BACK)
        if self._features:
            return (PREVIOUS, BACK)
        return (*self._product.options, FEATURES, BUY, PREVIOUS, BACK)

    def page(self) -> str:
        """The page as text; links stand in brackets."""
        links = " ".join(f"[{link}]" for link in self.links())
        if self._results is None:
            return "Search."
        if self._product is None:
            at = self._page * self._shown
            here = [products()[code] for code in self._results[at : at + self._shown]]
            told = [f"[{product.code}] {product.title} ${product.price}" for product in here]
            rest = " ".join(f"[{link}]" for link in self.links()[len(here) :])
            return f"Page {self._page + 1}, {len(self._results)} found. {' '.join(told)} {rest}".replace("  ", " ")
        if self._features:
            return f"{', '.join(self._product.attributes)}. {links}"
        chosen = f" Chosen: {', '.join(sorted(self._chosen))}." if self._chosen else ""
        return f"{self._product.title} ${self._product.price}.{chosen} {links}"

    def demonstrator(self, seed: int) -> Player:
        """Buys one of the first products that look right, not always with the options."""
        return Buyer(random.Random(seed))

    def reference(self, seed: int) -> Player:
        """Looks at what was found, and buys what fits best as far as it can be seen; ``seed`` is not used."""
        return Buyer(None)

    def reference_return(self) -> float:
        """Mean return of the reference over the instructions of evaluations."""
        return _reference_return(self.max_turns, self._shown)

    def _home(self) -> None:
        self._results, self._page, self._product = None, 0, None
        self._chosen, self._features, self._bought = frozenset(), False, False

    def _leave(self) -> None:
        """One page back."""
        if self._features:
            self._features = False
        elif self._product is not None:
            self._product, self._chosen = None, frozenset()
        else:
            self._page -= 1


@lru_cache
def _reference_return(max_turns: int, shown: int) -> float:
    env = WebShop(max_turns, shown)
    return sum(play_scripted(env, Buyer(None), 2 * seed + 1).return_ for seed in range(300)) / 300
