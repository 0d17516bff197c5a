"""The settings of engines that play in the place of the built-in one, typed and documented; and what goes with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from archer.config.kinds import STRICT, Natural

EngineName = Literal["built-in", "vllm", "server"]
OURS = frozenset(
    {
        "model", "tokenizer", "dtype", "seed", "max_model_len", "logprobs_mode", "generation_config",
        "enable_prefix_caching", "enable_lora", "max_lora_rank", "max_loras", "max_cpu_loras",
    }
)  # fmt: skip
"""Arguments of vLLM that follow from other settings."""


@dataclass(frozen=True, config=STRICT)
class ServerConfig:
    """A server that plays: vLLM's, or another that completes token ids with token ids over OpenAI's protocol."""

    url: str = ""
    """Base address, `http://localhost:8000/v1` for instance."""
    model: str = ""
    """Name of `model.actor` as the server knows it."""
    adapters: str = ""
    """Folder that the server reads as well, under the same path: with `model.lora`, every version of the policy is
    written there for it to load."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the access key; where it is unset none is sent."""
    timeout: Annotated[float, Field(gt=0, strict=True)] = 120.0
    """Seconds that an utterance may take, in the server's queue included."""
    retries: Natural = 5
    """How often a request that failed in passing is sent again, after 0.5 s, 1 s, 2 s, …; then the run stops, to be
    resumed."""
