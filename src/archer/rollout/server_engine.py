"""A server as the engine: OpenAI's completions, with token ids in and token ids and log-probabilities out."""

from __future__ import annotations

import json
import queue
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from archer.asking import Unanswered, ask, request
from archer.config import RunConfig
from archer.models.actor import Actor
from archer.models.lora import Adapted
from archer.rollout.requests import FORBIDDEN, Answer, Elsewhere, Line, Request
from archer.rollout.sampling import Sampling
from archer.rollout.speaking import EngineError

AT_ONCE = 256
"""Most requests under way."""
PAUSE = 0.5
"""Seconds before a request is sent for the second time."""
MOMENT = 0.02
"""Seconds that a step waits for an answer, while environments may have answered too."""
REFUSED = (
    "; vLLM's does where it was started with --enable-lora --max-lora-rank RANK and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment, and sees that folder under the same path"
)


class ServerEngine(Elsewhere):
    """Its weights stay as they are; with ``model.lora`` it is sent each version of the adapter (vLLM's servers)."""

    def __init__(self, config: RunConfig) -> None:
        """ValueError where the server has no such model, EngineError where it cannot be reached."""
        super().__init__()
        self.settings = config.rollout.server
        self.model = self.settings.model
        """What requests name: the model, or the newest adapter."""
        self.slots = threading.BoundedSemaphore(AT_ONCE)
        self._run = f"archer-{uuid4().hex[:8]}"
        self._versions = 0
        self._check_model(config.rollout.max_tokens)

    def follow(self, actor: Actor) -> None:
        if not isinstance(actor.model, Adapted):
            return
        self._versions += 1
        name = f"{self._run}-{self._versions}"
        folder = Path(self.settings.adapters).absolute() / name
        actor.model.save(folder)
        try:
            self.call("load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, bytes.decode)
            if self._versions > 1:
                self.call("unload_lora_adapter", {"lora_name": self.model}, bytes.decode)
        except Unanswered as error:
            raise EngineError(
                f"the server at {self.settings.url} did not load the adapter {folder}: {error}"
                + (REFUSED if str(error).startswith("HTTP") else "")
            ) from None
        if self._versions > 1:
            shutil.rmtree(folder.with_name(self.model), ignore_errors=True)
        self.model = name

    def line(self, actor: Actor, sampling: Sampling) -> ServerLine:
        return ServerLine(self, actor, sampling)

    def call(self, path: str, body: Mapping[str, object] | None, read: Any) -> Any:
        """What ``read`` makes of the server's answer; Unanswered where it gives none."""
        settings = self.settings
        url = f"{settings.url.rstrip('/')}/{path}"
        return ask(
            lambda: request(url, body, key_variable=settings.key_variable, timeout=settings.timeout), read,
            retries=settings.retries, pause=PAUSE, longest=settings.timeout,
        )  # fmt: skip

    def _check_model(self, tokens: int) -> None:
        try:
            known = self.call("models", None, _models)
        except Unanswered as error:
            raise EngineError(f"the server at {self.settings.url} does not tell its models: {error}") from None
        if self.model not in known:
            raise ValueError(
                f"rollout.server.model={self.model!r}, but the server at {self.settings.url} has {', '.join(known)}"
            )
        room = known[self.model]
        if room is not None and room < tokens:
            raise ValueError(f"rollout.max_tokens={tokens} is more than the server's model reads ({room} tokens)")


class ServerLine(Line):
    """Requests to a server, each in a thread of its own that nobody waits for when the program ends."""

    def __init__(self, engine: ServerEngine, actor: Actor, sampling: Sampling) -> None:
        self._engine = engine
        self._arrived: queue.SimpleQueue[Answer | EngineError] = queue.SimpleQueue()
        body: dict[str, object] = {
            "model": engine.model,
            "temperature": sampling.temperature,
            "stop_token_ids": [actor.stop_id],
            "ignore_eos": True,  # an utterance ends with the policy's stop token and no other
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,  # servers of before say them so
        }
        # Only what is asked for: not every server knows all of it.
        for name in ("top_k", "top_p", "min_p", "stop"):
            if getattr(sampling, name) != getattr(Sampling, name):
                body[name] = getattr(sampling, name)
        if len(actor.suppressed):
            body["logit_bias"] = {str(token): FORBIDDEN for token in actor.suppressed.tolist()}
        self._body = body

    def ask(self, request: Request) -> None:
        threading.Thread(target=self._fetch, args=(request,), name="utterance", daemon=True).start()

    def answers(self) -> list[Answer]:
        found: list[Answer] = []
        try:
            arrived = self._arrived.get(timeout=MOMENT)
            while True:
                if isinstance(arrived, EngineError):
                    raise arrived
                found.append(arrived)
                arrived = self._arrived.get_nowait()
        except queue.Empty:
            return found

    def _fetch(self, request: Request) -> None:
        """The answer to one request, or why there is none."""
        engine = self._engine
        body = self._body | {
            "prompt": request.prompt.tolist(), "max_tokens": request.most, "seed": request.seed,
        }  # fmt: skip
        with engine.slots:
            try:
                arrived: Answer | EngineError = engine.call("completions", body, lambda reply: _answer(reply, request))
            except Exception as error:  # whatever it is: who waits for an answer must hear of it
                problem = str(error) if isinstance(error, Unanswered) else f"{type(error).__name__}: {error}"
                arrived = EngineError(
                    f"the server at {engine.settings.url} ({engine.model!r}) gave no answer: {problem}"
                )
        self._arrived.put(arrived)


def _models(reply: bytes) -> dict[str, int | None]:
    """Names of a server's models, and how many tokens they read where it tells."""
    try:
        return {model["id"]: model.get("max_model_len") for model in json.loads(reply)["data"]}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no list of models: {reply[:200].decode(errors='replace')!r}") from error


def _answer(reply: bytes, request: Request) -> Answer:
    """A completion; ValueError for one without ids or log-probabilities."""
    try:
        choice = json.loads(reply)["choices"][0]
        ids, about = choice.get("token_ids"), choice.get("logprobs") or {}
        logprobs, names = about.get("token_logprobs"), about.get("tokens") or []
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no completion: {reply[:200].decode(errors='replace')!r}") from error
    if ids is None and names and all(str(name).startswith("token_id:") for name in names):
        ids = [int(name.removeprefix("token_id:")) for name in names]
    if not ids:
        raise ValueError(
            "it does not say which token ids it sampled (neither return_token_ids nor return_tokens_as_token_ids works "
            "there), and text is never tokenised again; take a server that does, vLLM's for instance"
        )
    if not logprobs or None in logprobs:
        raise ValueError("it gives no log-probabilities (logprobs=1); take a server that does, vLLM's for instance")
    read = choice.get("prompt_token_ids")
    if read is not None and read != request.prompt.tolist():
        raise ValueError("it read other token ids than it was sent")
    return Answer(request.key, np.array(ids, np.int32), np.array(logprobs, np.float32))
