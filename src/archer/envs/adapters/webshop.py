"""A running WebShop server (Yao et al. 2022, arXiv 2207.01206), the original's or ours, over HTTP."""

from __future__ import annotations

import random
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from archer.envs.adapters.common import level_of
from archer.envs.game import Game, Reply, at_least
from archer.envs.web_shop.env import ACTION
from archer.extras import need
from archer.types import Observation

_SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
_SCORE = "Your score (min 0.0, max 1.0)"


class WebShopHTTP(Game):
    """0 until something is bought, then the score that the site tells.

    Pages are told as ArCHer's and ReAct's clients do: buttons, products and options in brackets, the first ``shown``
    products of a page.
    url: of the server, ``http://localhost:3000``.
    sessions: how many numbered sessions there are, ``fixed_0`` and on; each is an instruction. The last ``held_out``
        are for evaluations.
    """

    def __init__(
        self,
        url: str,
        sessions: int = 500,
        held_out: int = 100,
        shown: int = 3,
        max_turns: int = 10,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(max_turns)
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url must start with http:// or https://, got {url!r}")
        need("bs4", "web-shop")
        self._url, self._timeout = url.rstrip("/"), timeout
        self._sessions, self._held_out = at_least("sessions", sessions, 2), at_least("held_out", held_out, 1)
        if self._held_out >= self._sessions:
            raise ValueError(f"held_out must be less than sessions={sessions}, got {held_out}")
        self._shown = at_least("shown", shown, 1)
        self._session = ""
        self._forget()

    def begin(self, chance: random.Random, options: Mapping[str, object], *, held_out: bool) -> Observation:
        """Open a session drawn by chance, or number ``options["session"]``."""
        known = self._sessions - self._held_out
        number = options.get("session")
        if type(number) is not int:
            number = level_of(chance, known, self._held_out, held_out=held_out)
        self._session = f"fixed_{number}"
        self._forget()
        return self._open()

    def hear(self, utterance: str) -> Reply:
        """Search or click."""
        action = ACTION.fullmatch(utterance)
        if action is None or not self._follow(action[1].lower(), action[2].strip()):
            return Reply("Invalid action!", 0.0, info={"success": False})
        page = self._open()
        if self._score is None:
            return Reply(page, 0.0, info={"success": False})
        return Reply(page, self._score, over=True, info={"success": self._score == 1.0})

    def _forget(self) -> None:
        self._kind, self._asked, self._page, self._item, self._sub = "", "", 1, "", ""
        self._chosen: dict[str, str] = {}
        self._links: set[str] = set()
        self._types: dict[str, str] = {}
        """Option types by option, of the page that was opened last."""
        self._score: float | None = None

    def _follow(self, kind: str, what: str) -> bool:
        """Go where an action leads; whether the page has it."""
        if kind == "search":
            if self._kind or not what:
                return False
            self._kind, self._asked = "search_results", what.replace("/", " ")
            return True
        link = next((link for link in self._links if link.lower() == what.lower()), None)
        if link is None:
            return False
        match link:
            case "Back to Search":
                self._forget()
            case "Buy Now":
                self._kind = "done"
            case "Next >":
                self._page += 1
            case "< Prev" if self._kind == "item_sub_page":
                self._kind = "item_page"
            case "< Prev" if self._kind == "item_page":
                self._kind, self._chosen = "search_results", {}
            case "< Prev":
                self._page -= 1
            case _ if link in _SUB_PAGES:
                self._kind, self._sub = "item_sub_page", link
            case _ if link in self._types:
                self._chosen[self._types[link]] = link
            case _:
                self._kind, self._item, self._chosen = "item_page", link, {}
        return True

    def _open(self) -> str:
        """Fetch the page where we are, and tell it."""
        here = {
            "": (),
            "search_results": (self._asked, self._page),
            "item_page": (self._item, self._asked, self._page, self._chosen),
            "item_sub_page": (self._item, self._asked, self._page, self._sub, self._chosen),
            "done": (self._item, self._chosen),
        }[self._kind]
        parts = [self._kind, self._session, *here] if self._kind else [self._session]
        address = "/".join([self._url, *(quote(str(part), safe="") for part in parts)])
        try:
            with urllib.request.urlopen(address, timeout=self._timeout) as reply:
                html: bytes = reply.read()
        except urllib.error.URLError as error:
            raise ConnectionError(f"{address}: {error}") from error
        return self._told(html.decode(errors="replace"))

    def _told(self, html: str) -> str:
        import bs4

        soup: Any = bs4.BeautifulSoup(html, "html.parser")  # its types differ from release to release
        texts = [
            text
            for text in soup.find_all(string=True)
            if text.strip() and text.parent.name not in ("style", "script", "head", "title", "meta", "[document]")
            and not isinstance(text, bs4.Comment)
        ]  # fmt: skip
        self._links, self._types = set(), {}
        told: list[str] = []
        heading, count = "", 0
        for text in texts:
            words = " ".join(text.split())
            parent = text.parent
            if parent.name == "button":
                self._links.add(words)
                told.append(f"[{words}]")
            elif parent.name == "label":
                self._links.add(words)
                self._types[words] = heading
                told.append(f"[[{words}]]" if self._chosen.get(heading) == words else f"[{words}]")
            elif "product-link" in (parent.get("class") or []):
                count += 1
                if count <= self._shown:
                    self._links.add(words)
                    told.append(f"[{words}]")
            else:
                heading = words
                if count <= self._shown:
                    told.append(words)
        if _SCORE in told:
            self._score = float(told[told.index(_SCORE) + 1])
        return " ".join(told)
