"""vLLM as the engine, in this process: it gets every version of the weights, or of an adapter on them, from a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from archer.config import RunConfig
from archer.extras import need
from archer.models.actor import Actor
from archer.models.lora import Adapted
from archer.rollout.requests import FORBIDDEN, Answer, Elsewhere, Line, Request
from archer.rollout.sampling import Sampling
from archer.rollout.speaking import EngineError

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Sizes that vLLM makes room for adapters in."""


class VllmEngine(Elsewhere):
    """Begins with the first actor that is to speak. Conversations share what their beginnings have in common (prefix
    caching); weights change in place."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # else the order of its work is chance
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # output is for results
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        self.vllm = need("vllm", "vllm")
        self.llm: Any = None
        self.adapter: Any = None
        """The adapter to speak with, where there is one."""
        self.waiting: dict[str, int] = {}
        """Keys of the requests under way, by the names that vLLM knows them by."""
        self.asked = 0
        """Requests so far, so that their names differ."""
        self._config = config
        self._folder = TemporaryDirectory(prefix="archer-")
        self._versions = 0

    def follow(self, actor: Actor) -> None:
        if self.waiting:  # after an error nobody waits for them any more
            self.llm.llm_engine.abort_request(list(self.waiting))
            self.waiting.clear()
        self._versions += 1
        folder = Path(self._folder.name) / str(self._versions)
        if isinstance(actor.model, Adapted):
            self._adapt(actor.model, folder)
        else:
            self._load(actor, folder)
        before = folder.with_name(str(self._versions - 1))
        shutil.rmtree(before, ignore_errors=True)

    def line(self, actor: Actor, sampling: Sampling) -> VllmLine:
        return VllmLine(self, actor, sampling)

    def _adapt(self, model: Adapted, folder: Path) -> None:
        """Another version of the adapter is another adapter, with a prefix cache of its own."""
        if self.llm is None:
            rank = self._config.model.lora.rank
            most = next((room for room in RANKS if room >= rank), rank)
            self._begin(model.base.model.name_or_path, enable_lora=True, max_loras=1, max_lora_rank=most)
        model.save(folder)
        if self.adapter is not None:
            self.llm.llm_engine.remove_lora(self.adapter.lora_int_id)
        name = f"version-{self._versions}"
        self.adapter = need("vllm.lora.request", "vllm").LoRARequest(name, self._versions, str(folder))

    def _load(self, actor: Actor, folder: Path) -> None:
        """Other weights in the place of those before, none of whose keys and values are kept."""
        _write_untied(actor, folder)
        if self.llm is None:
            self._begin(str(folder))
        else:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if not self.llm.reset_prefix_cache():
                raise EngineError("vLLM keeps keys and values of the weights before: it did not reset its prefix cache")

    def _begin(self, model: str, **adapters: Any) -> None:
        config = self._config
        settings: Mapping[str, Any] = {
            "gpu_memory_utilization": 0.4,
            "use_tqdm_on_load": False,
            **config.rollout.vllm,
            "model": model,
            "dtype": config.model.precision,
            "seed": config.seed % 2**31,
            "max_model_len": config.rollout.max_tokens,
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # its own defaults, none of the model's
            "logprobs_mode": "raw_logprobs",
        }
        self.llm = self.vllm.LLM(**settings, **adapters)


def _write_untied(actor: Actor, folder: Path) -> None:
    """A checkpoint in the actor's precision whose output layer has weights of its own: of tied ones vLLM may change the
    embeddings only."""
    model = actor.model
    weights = {key: value.to("cpu", actor.precision, copy=True) for key, value in model.state_dict().items()}
    tied = model.config.tie_word_embeddings
    model.config.tie_word_embeddings = False
    try:
        model.save_pretrained(folder, state_dict=weights)
    finally:
        model.config.tie_word_embeddings = tied
    actor.tokenizer.save_pretrained(folder)


class VllmLine(Line):
    """Requests to a vLLM in this process."""

    def __init__(self, engine: VllmEngine, actor: Actor, sampling: Sampling) -> None:
        self._engine = engine
        self._settings = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k or -1,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "stop": list(sampling.stop),
            "stop_token_ids": [actor.stop_id],
            "ignore_eos": True,  # an utterance ends with the policy's stop token and no other
            "logprobs": 0,
            "logit_bias": dict.fromkeys(actor.suppressed.tolist(), FORBIDDEN) or None,
            "detokenize": bool(sampling.stop),
            "output_kind": need("vllm.sampling_params", "vllm").RequestOutputKind.FINAL_ONLY,
        }

    def ask(self, request: Request) -> None:
        engine = self._engine
        engine.asked += 1
        name = str(engine.asked)
        engine.waiting[name] = request.key
        how = engine.vllm.SamplingParams(**self._settings, seed=request.seed, max_tokens=request.most)
        engine.llm.llm_engine.add_request(
            name, {"prompt_token_ids": request.prompt.tolist()}, how, lora_request=engine.adapter
        )

    def answers(self) -> list[Answer]:
        found = []
        for output in self._engine.llm.llm_engine.step():
            if output.finished:
                said = output.outputs[0]
                chances = zip(said.token_ids, said.logprobs, strict=True)
                logprobs = np.array([chance[token].logprob for token, chance in chances], np.float32)
                key = self._engine.waiting.pop(output.request_id)
                found.append(Answer(key, np.array(said.token_ids, np.int32), logprobs))
        return found
