"""A running OpenEnv server: an environment behind a WebSocket, in a container of its own for instance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from archer.envs.base import NOT_UNDER_WAY, Info
from archer.extras import need
from archer.types import Observation


class OpenEnv:
    """Utterances become one field of the server's actions, one field of its observations is what the agent is told.

    url: of the server, ``http://localhost:8000``.
    action: the field of an action that is the utterance.
    fields: other fields of every action.
    observation: the field of an observation that is told; without it the first that holds text or chat messages, else
        all of them as JSON.
    timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        url: str,
        action: str = "message",
        fields: Mapping[str, Any] | None = None,
        observation: str = "",
        timeout: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://", "ws://", "wss://")):
            raise ValueError(f"url must start with http://, https://, ws:// or wss://, got {url!r}")
        client = need("openenv.core.generic_client", "openenv").GenericEnvClient
        self._make: Callable[[], Any] = lambda: client(base_url=url, message_timeout_s=timeout).sync()
        self._action, self._fields, self._observation = action, dict(fields or {}), observation
        self._client: Any = None
        self._playing = False

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode."""
        if self._client is None:
            self._client = self._make()
        result = self._client.reset(seed=seed, **(options or {}))
        self._playing = True
        return self._told(result.observation), dict(result.metadata or {})

    def step(self, utterance: str) -> tuple[Observation, float, bool, bool, Info]:
        """Take an action."""
        if not self._playing:
            raise RuntimeError(NOT_UNDER_WAY)
        result = self._client.step({**self._fields, self._action: utterance})
        self._playing = not result.done
        return self._told(result.observation), float(result.reward or 0.0), bool(result.done), False, {}

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _told(self, observation: Mapping[str, Any]) -> Observation:
        if self._observation:
            if self._observation not in observation:
                raise KeyError(f"observations have no field {self._observation!r}, but {', '.join(observation)}")
            found = observation[self._observation]
            return found if isinstance(found, (str, list)) else json.dumps(found)
        for name, value in observation.items():
            if name != "metadata" and (isinstance(value, str) or _messages(value)):
                told: Observation = value
                return told
        return json.dumps({name: value for name, value in observation.items() if name != "metadata"}, default=str)


def _messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)
