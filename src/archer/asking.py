"""Ask a server for JSON over HTTP, and once more where it failed in passing."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
"""HTTP statuses that may pass by themselves."""


class Unanswered(RuntimeError):
    """A server did not answer as it should; the message says how it failed last."""


def check_address(url: str, name: str) -> None:
    """ValueError for what is no address, with the setting's ``name``."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{name} must start with http:// or https://, got {url!r}")


def request(url: str, body: Mapping[str, object] | None, *, key_variable: str, timeout: float) -> bytes:
    """What the server answers to ``body`` as JSON, or to a plain GET without one.

    key_variable: environment variable that holds the access key; where it is unset none is sent.
    """
    headers = {"Content-Type": "application/json"}
    key = os.environ.get(key_variable)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, headers, method="GET" if body is None else "POST")
    with urllib.request.urlopen(asked, timeout=timeout) as reply:
        answer: bytes = reply.read()
    return answer


def _beginning(error: urllib.error.HTTPError) -> str:
    """What a server says of its refusal, as far as it comes to say it."""
    try:
        return error.read(200).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def ask(
    send: Callable[[], bytes],
    read: Callable[[bytes], T],
    *,
    retries: int,
    pause: float,
    longest: float,
    failed: Callable[[], None] = lambda: None,
) -> T:
    """What ``read`` makes of the answer that ``send`` gets.

    Failures that may pass are tried again ``retries`` times, after ``pause`` seconds, twice and four times as many, …,
    or after as many as the server asks for (``Retry-After``), up to ``longest``. An answer that ``read`` refuses
    (ValueError) is not asked for again. ``failed`` hears of every failure. Raises Unanswered.
    """
    for attempt in range(retries + 1):
        asked_to_wait = 0.0
        try:
            return read(send())
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}: {_beginning(error)}"
            passing = error.code in _PASSING
            wanted = error.headers.get("Retry-After", "")
            asked_to_wait = min(float(wanted), longest) if wanted.isdigit() else 0.0
        except (OSError, http.client.HTTPException) as error:  # refused, unreachable, timed out, cut off
            problem, passing = f"{type(error).__name__}: {error}", True
        except ValueError as error:
            problem, passing = str(error), False
        failed()
        if not passing:
            break
        if attempt < retries:
            time.sleep(max(pause * 2**attempt, asked_to_wait))
    raise Unanswered(problem)
