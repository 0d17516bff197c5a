"""What of vLLM's interface is used, over transformers: enough to find out whether it is called as documented.

Where vLLM itself is installed the tests run with that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.completions import sample


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    logprobs: int
    logit_bias: dict[int, float] | None
    detokenize: bool
    output_kind: str
    seed: int
    max_tokens: int


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class LLM:
    """One model; requests are answered one by one."""

    model: str
    dtype: str
    seed: int
    max_model_len: int
    enable_prefix_caching: bool
    generation_config: str
    logprobs_mode: str
    gpu_memory_utilization: float
    use_tqdm_on_load: bool
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    enforce_eager: bool = False
    waiting: list[tuple[str, list[int], SamplingParams, LoRARequest | None]] = field(default_factory=list)
    adapted: dict[int, Any] = field(default_factory=dict)
    forgotten: int = 0

    def __post_init__(self) -> None:
        assert self.logprobs_mode == "raw_logprobs" and self.generation_config == "vllm"
        self.weights = self._read(self.model)

    @property
    def llm_engine(self) -> LLM:
        return self

    def add_request(
        self, request_id: str, prompt: dict[str, list[int]], params: SamplingParams, *, lora_request: LoRARequest | None
    ) -> None:
        ids = prompt["prompt_token_ids"]
        assert params.output_kind == "final" and params.ignore_eos and params.max_tokens > 0
        assert len(ids) + params.max_tokens <= self.max_model_len and request_id not in [
            name for name, *_ in self.waiting
        ]
        assert (lora_request is None) != self.enable_lora and all(type(token) is int for token in ids)
        self.waiting.append((request_id, ids, params, lora_request))

    def step(self) -> list[Any]:
        name, prompt, params, adapter = self.waiting.pop(0)
        model = self.weights if adapter is None else self._adapter(adapter)
        body = {"prompt": prompt, **vars(params), "logit_bias": params.logit_bias or {}, "top_k": max(0, params.top_k)}
        with torch.no_grad():
            ids, logprobs = sample(model, body, {})
        chances = [{token: SimpleNamespace(logprob=value)} for token, value in zip(ids, logprobs, strict=True)]
        said = SimpleNamespace(token_ids=ids, logprobs=chances)
        return [SimpleNamespace(request_id=name, finished=True, outputs=[said])]

    def abort_request(self, names: list[str]) -> None:
        self.waiting = [request for request in self.waiting if request[0] not in names]

    def remove_lora(self, number: int) -> bool:
        return self.adapted.pop(number, None) is not None

    def collective_rpc(self, method: str, *, kwargs: dict[str, str]) -> None:
        assert method == "reload_weights" and not self.waiting
        # As vLLM does, change what was loaded, and of tied weights the embeddings alone.
        read = self._read(kwargs["weights_path"])
        assert read.config.tie_word_embeddings is False
        self.weights.load_state_dict(read.state_dict())
        self.forgotten -= 1

    def reset_prefix_cache(self) -> bool:
        self.forgotten += 1
        return True

    def _adapter(self, adapter: LoRARequest) -> Any:
        if adapter.lora_int_id not in self.adapted:
            adapted = PeftModel.from_pretrained(self._read(self.model), adapter.lora_path)
            self.adapted[adapter.lora_int_id] = adapted.merge_and_unload().eval()
        return self.adapted[adapter.lora_int_id]

    def _read(self, path: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, self.dtype)).eval()


def install(monkeypatch: Any) -> None:
    """Let ``import vllm`` find this."""
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.sampling_params")}
    modules["vllm"].__dict__.update(LLM=LLM, SamplingParams=SamplingParams)
    modules["vllm.lora.request"].__dict__.update(LoRARequest=LoRARequest)
    modules["vllm.sampling_params"].__dict__.update(RequestOutputKind=SimpleNamespace(FINAL_ONLY="final"))
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
