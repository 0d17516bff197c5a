"""An oracle behind a chat endpoint of the OpenAI kind, which a hosted or a local language model answers."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from archer.envs.twenty_questions.oracle import prompt, read_answer

_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
"""HTTP statuses that may pass by themselves."""


class OracleError(RuntimeError):
    """The endpoint gave no usable reply; the message says which endpoint and why."""


@dataclass(frozen=True)
class EndpointOracle:
    """Asks ``POST {url}/chat/completions`` for every answer, several at once. Picklable; holds no connection."""

    url: str
    """Base address, ``http://localhost:8000/v1`` for instance."""
    model: str
    """Name of the model as the endpoint knows it."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the access key; where it is unset none is sent."""
    timeout: float = 30.0
    """Seconds a reply may take."""
    retries: int = 3
    """How often a failed request is sent again, after 0.5 s, 1 s, 2 s, …"""
    pause: float = 0.5
    """Seconds before the first retry."""
    parallel: int = 16
    """Requests under way at once."""
    max_tokens: int = 4
    """Longest reply in tokens; only its first word counts."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must start with http:// or https://, got {self.url!r}")
        for name, least in (("retries", 0), ("parallel", 1), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.timeout <= 0 or self.pause < 0:
            raise ValueError("timeout must be positive and pause not negative")

    def answer(self, targets: Sequence[str], questions: Sequence[str]) -> list[str]:
        """One answer per (target, question); a reply that begins with neither yes nor no is ``Invalid Question.``.

        Raises OracleError where the endpoint cannot be reached, refuses, or replies with something else.
        """
        prompts = [prompt(target, question) for target, question in zip(targets, questions, strict=True)]
        if len(prompts) == 1:
            return [read_answer(self._complete(prompts[0]))]
        with ThreadPoolExecutor(max_workers=self.parallel) as pool:
            return [read_answer(text) for text in pool.map(self._complete, prompts)]

    def _complete(self, text: str) -> str:
        for attempt in range(self.retries + 1):
            try:
                return _content(self._post(text))
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code} {error.reason}: {error.read(200).decode(errors='replace')}"
                passing = error.code in _RETRIED
            except (OSError, http.client.HTTPException) as error:  # refused, unreachable, timed out, cut off
                problem, passing = f"{type(error).__name__}: {error}", True
            except ValueError as error:
                problem, passing = str(error), False
            if not passing:
                break
            if attempt < self.retries:
                time.sleep(self.pause * 2**attempt)
        raise OracleError(f"the oracle at {self.url} (model {self.model!r}) gave no answer: {problem}")

    def _post(self, text: str) -> bytes:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.key_variable)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            data: bytes = reply.read()
        return data


def _content(reply: bytes) -> str:
    try:
        content = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        beginning = reply[:200].decode(errors="replace")
        raise ValueError(f"the reply is no chat completion: {beginning!r}") from error
    return content if isinstance(content, str) else ""
