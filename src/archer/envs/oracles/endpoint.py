"""A chat endpoint of the OpenAI kind, which a hosted or a local language model answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from archer.asking import Unanswered, ask, check_address, request
from archer.envs.oracles.base import OracleError


class Account:
    """What an endpoint was asked for and what that costs; many threads write in it, one at a time."""

    def __init__(self) -> None:
        self.requests = self.failures = self.tokens_in = self.tokens_out = 0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait_for_turn(self, pause: float) -> None:
        """Sleep until ``pause`` seconds after the last request that was let through."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + pause
            self.requests += 1
        time.sleep(turn - now)

    def add(self, usage: Any) -> None:
        """Count the tokens that a reply says it took."""
        if isinstance(usage, dict):
            with self._lock:
                self.tokens_in += int(usage.get("prompt_tokens") or 0)
                self.tokens_out += int(usage.get("completion_tokens") or 0)

    def fail(self) -> None:
        """Count a request that failed."""
        with self._lock:
            self.failures += 1

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


@dataclass(frozen=True)
class ChatEndpoint:
    """Asks ``POST {url}/chat/completions`` for every reply, several at once. Picklable; holds no connection."""

    url: str
    """Base address, ``http://localhost:8000/v1`` for instance."""
    model: str
    """Name of the model as the endpoint knows it."""
    system: str = ""
    """What it is told before every prompt: whom to play, for instance."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the access key; where it is unset none is sent."""
    timeout: float = 30.0
    """Seconds a reply may take."""
    retries: int = 3
    """How often a failed request is sent again, after 0.5 s, 1 s, 2 s, …"""
    pause: float = 0.5
    """Seconds before the first retry; where the endpoint says how long to wait (``Retry-After``), so long at least."""
    parallel: int = 16
    """Requests under way at once."""
    per_minute: int = 0
    """Most requests in a minute, evenly spread; 0 for any number."""
    max_tokens: int = 4
    """Longest reply in tokens."""
    temperature: float = 0.0
    price_in: float = 0.0
    """Price of a million tokens read; what it is in is yours to know."""
    price_out: float = 0.0
    """Price of a million tokens written."""
    account: Account = field(default_factory=Account, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_address(self.url, "url")
        for name, least in (("retries", 0), ("parallel", 1), ("max_tokens", 1), ("per_minute", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.timeout <= 0 or self.pause < 0:
            raise ValueError("timeout must be positive and pause not negative")

    @property
    def cost(self) -> float:
        """What all replies so far cost."""
        account = self.account
        return (account.tokens_in * self.price_in + account.tokens_out * self.price_out) / 1e6

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One reply per prompt.

        Raises OracleError where the endpoint cannot be reached, refuses, or replies with something else.
        """
        if len(prompts) <= 1:
            return [self._complete(prompt) for prompt in prompts]
        with ThreadPoolExecutor(max_workers=self.parallel) as pool:
            return list(pool.map(self._complete, prompts))

    def _complete(self, text: str) -> str:
        try:
            return ask(
                lambda: self._post(text), self._content,
                retries=self.retries, pause=self.pause, longest=self.timeout, failed=self.account.fail,
            )  # fmt: skip
        except Unanswered as error:
            raise OracleError(f"the model at {self.url} ({self.model!r}) gave no answer: {error}") from None

    def _post(self, text: str) -> bytes:
        self.account.wait_for_turn(60 / self.per_minute if self.per_minute else 0.0)
        messages = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self.model,
            "messages": [*messages, {"role": "user", "content": text}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        url = f"{self.url.rstrip('/')}/chat/completions"
        return request(url, body, key_variable=self.key_variable, timeout=self.timeout)

    def _content(self, reply: bytes) -> str:
        try:
            read = json.loads(reply)
            content = read["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            beginning = reply[:200].decode(errors="replace")
            raise ValueError(f"the reply is no chat completion: {beginning!r}") from error
        self.account.add(read.get("usage"))
        return content if isinstance(content, str) else ""
