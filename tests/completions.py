"""A small server that completes token ids with a real model, as vLLM's does, and with whatever faults a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from archer.rollout.sampling import Sampling


def sample(model: Any, body: Mapping[str, Any], faults: Mapping[str, bool]) -> tuple[list[int], list[float]]:
    """Token ids of one completion, with the model's own log-probabilities, whatever it was drawn at."""
    sampling = Sampling(
        temperature=body["temperature"] or 1.0, top_k=body.get("top_k", 0), top_p=body.get("top_p", 1.0),
        min_p=body.get("min_p", 0.0),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(body["seed"])
    bias = {int(token): value for token, value in body.get("logit_bias", {}).items()}
    ids: list[int] = []
    logprobs: list[float] = []
    fed, past = torch.tensor([body["prompt"]]), None
    while len(ids) < body["max_tokens"]:
        output = model(input_ids=fed, past_key_values=past, use_cache=True)
        past, logits = output.past_key_values, output.logits[:, -1]
        raw = logits.log_softmax(dim=-1)
        if bias and not faults.get("ignores_bias"):
            logits = logits.clone()
            logits[:, list(bias)] += torch.tensor(list(bias.values()))
        drawn_from = sampling.adjust(logits)
        if faults.get("scaled"):
            raw = drawn_from.log_softmax(dim=-1)
        chances = drawn_from.softmax(dim=-1)
        token = int(logits.argmax() if body["temperature"] == 0 else torch.multinomial(chances, 1, generator=generator))
        ids.append(token)
        logprobs.append(float(raw[0, token]))
        if token in body["stop_token_ids"]:
            break
        fed = torch.tensor([[token]])
    return ids, logprobs


class Completions(ThreadingHTTPServer):
    """One model and adapters of it. Log-probabilities are the model's own: temperature 1, nothing forbidden."""

    daemon_threads = True

    def __init__(self, model: Path, *, read: int = 512, **faults: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = model
        self.models: dict[str, Any] = {"tiny": AutoModelForCausalLM.from_pretrained(model).eval()}
        self.read = read
        self.faults = faults
        """``no_ids``, ``old_ids`` (as vLLM said them before 0.11), ``no_logprobs``, ``scaled``, ``ignores_bias``."""
        self.statuses: list[int] = []
        """What the next completions are answered with, before it works."""
        self.delays: list[float] = []
        """Seconds that the next completions take besides."""
        self.loads = True
        """Whether it loads adapters."""
        self.dies_after = 10**9
        """Completions after which it is gone."""
        self.asked: list[dict[str, Any]] = []
        self.adapters: list[str] = []
        """Names of all that were loaded."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """One choice."""
        with self.lock, torch.no_grad():
            ids, logprobs = sample(self.models[body["model"]], body, self.faults)
        choice: dict[str, Any] = {"index": 0, "text": "not to be read", "finish_reason": "stop"}
        if not self.faults.get("no_logprobs"):
            names = [f"token_id:{token}" for token in ids] if not self.faults.get("no_ids") else ["a"] * len(ids)
            choice["logprobs"] = {"token_logprobs": logprobs, "tokens": names}
        if not self.faults.get("no_ids") and not self.faults.get("old_ids"):
            choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"]}
        return choice


class Handler(BaseHTTPRequestHandler):
    server: Completions

    def do_GET(self) -> None:
        models = [{"id": name, "max_model_len": self.server.read} for name in self.server.models]
        self._answer(200, {"data": models})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "lora" in self.path and not server.loads:
            return self._answer(404, {"detail": "Not Found"})
        if self.path == "/v1/load_lora_adapter":
            model = AutoModelForCausalLM.from_pretrained(server.base)
            server.models[body["lora_name"]] = (
                PeftModel.from_pretrained(model, body["lora_path"]).merge_and_unload().eval()
            )
            server.adapters.append(body["lora_name"])
            return self._answer(200, {})
        if self.path == "/v1/unload_lora_adapter":
            del server.models[body["lora_name"]]
            return self._answer(200, {})
        server.asked.append(body)
        if len(server.asked) > server.dies_after:
            server.socket.close()
            self.connection.close()
            return None
        time.sleep(server.delays.pop(0) if server.delays else 0)
        if server.statuses:
            return self._answer(server.statuses.pop(0), {"error": "not now"})
        if body["model"] not in server.models:
            return self._answer(404, {"error": f"no model {body['model']}"})
        self._answer(200, {"choices": [server.complete(body)]})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args: object) -> None:
        """Tests are quiet."""


@contextmanager
def serving(model: Path, **settings: Any) -> Iterator[Completions]:
    """A server while it lasts."""
    server = Completions(model, **settings)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
