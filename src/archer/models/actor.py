"""The actor: a Hugging Face causal LM with its tokenizer, and the log-probabilities of utterances under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from archer.models.batch import EpisodeBatch, TokenIndex
from archer.models.generation import drop_ignored
from archer.models.lora import Adapted, inside
from archer.models.passes import PLAIN, Passes
from archer.types import Ids

LOGITS_AT_ONCE = 1 << 25
"""Most logits that are kept for the way back: 128 MiB of them."""

disable_progress_bar()  # a bar per checkpoint would bury the run's own


class Actor(nn.Module):
    """Token policy π(token | state, tokens so far), temperature 1, full softmax over all tokens but suppressed ones."""

    suppressed: Tensor
    """Ids that the policy never says, int64."""

    def __init__(self, model: Any, tokenizer: Any, passes: Passes = PLAIN) -> None:
        super().__init__()
        self.passes = passes
        if tokenizer.eos_token_id is None:
            raise ValueError("the actor's tokenizer has no end-of-sequence token; utterances would never stop")
        self.model = model
        self.network.eval()  # dropout would make the policy that is trained differ from the one that plays
        self.tokenizer = tokenizer
        # Beside the weights, as every sampled token asks for them; what is saved is the generation config.
        said_never = self.network.generation_config.suppress_tokens or []
        self.register_buffer("suppressed", torch.tensor(said_never, dtype=torch.long), persistent=False)

    @property
    def network(self) -> Any:
        """The transformers model, under this actor's adapter where it has one."""
        return inside(self.model)

    @property
    def precision(self) -> torch.dtype:
        """Of its matrix products, when it learns and when it plays."""
        return self.passes.precision

    @classmethod
    def from_pretrained(
        cls, path: str | Path, dtype: torch.dtype = torch.float32, *, setting: str = "model.actor"
    ) -> Actor:
        """Load any causal LM by folder or hub name; ValueError, naming the ``setting``, where that cannot be."""
        name = str(path)
        if not Path(path).is_dir() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
            raise ValueError(f"{setting}: there is no folder {name!r}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(f"{setting}: cannot load a causal language model from {name!r}: {error}") from error
        # What was loaded lies in the file's own memory, off the boundaries that matrix products are fastest and round
        # alike at: a resumed run would differ from the uninterrupted one in the last bit.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        drop_ignored(model.generation_config)
        return cls(model, tokenizer)

    def save_pretrained(self, path: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write weights (safetensors), config and tokenizer in Hugging Face format; of an adapter, that alone.

        state: the weights of a model in shards, whole.
        """
        if isinstance(self.model, Adapted):
            self.model.save(Path(path))
        else:
            self.model.save_pretrained(path, state_dict=state)
        self.tokenizer.save_pretrained(path)

    def check_saving(self) -> None:
        """Raise ValueError where ``save_pretrained`` would, found out by a save of everything but the weights."""
        with TemporaryDirectory(prefix="archer-") as folder:
            try:
                if isinstance(self.model, Adapted):
                    self.model.describe(Path(folder))
                else:
                    self.model.save_pretrained(folder, state_dict={})
                self.tokenizer.save_pretrained(folder)
            except Exception as error:  # tokenizers raise nothing narrower
                why = " ".join(str(error).split())
                raise ValueError(
                    f"model.actor: {type(self.network).__name__} with its tokenizer cannot be saved, so nothing that "
                    f"is learned could be kept ({why}); correct the model's config.json, generation_config.json or "
                    "tokenizer_config.json, or name another model"
                ) from error

    @property
    def stop_id(self) -> int:
        """The token that ends an utterance."""
        return int(self.tokenizer.eos_token_id)

    @property
    def device(self) -> torch.device:
        return cast(torch.device, next(self.model.parameters()).device)

    @property
    def vocabulary(self) -> int:
        """Tokens that its output layer knows."""
        return int(self.network.get_output_embeddings().weight.shape[0])

    @property
    def context(self) -> int | None:
        """Most tokens the model can read, None where its config sets no limit."""
        limit = getattr(self.network.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def decode(self, ids: Ids) -> str:
        """Text of an utterance, special tokens left out."""
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)).strip()

    def suppress(self, tokens: Sequence[int]) -> None:
        """Take tokens out of the policy: it never says them and all others share their probability.

        Kept as ``suppress_tokens`` in the model's generation config: a saved actor keeps to it, in ``generate`` too.
        """
        self.network.generation_config.suppress_tokens = list(tokens)
        self.suppressed = torch.tensor(tokens, dtype=torch.long, device=self.device)

    def policy(self, logits: Tensor) -> Tensor:
        """Logits [..., vocabulary] without the suppressed tokens."""
        return logits.index_fill(-1, self.suppressed, -torch.inf) if len(self.suppressed) else logits

    def hidden(self, batch: EpisodeBatch) -> Tensor:
        """Last hidden states of every token of the batch, shape [rows, width, d]."""
        return self.passes.hidden(self.model, batch)

    def logprobs(self, batch: EpisodeBatch, tokens: TokenIndex) -> Tensor:
        """Log-probability of each indexed token of utterances under the policy, float32 [T].

        Logits are taken only where an utterance token is predicted: the output layer is most of a small model.
        """
        return self.utterance_logprobs(self.hidden(batch), batch, tokens)

    def utterance_logprobs(self, hidden: Tensor, batch: EpisodeBatch, tokens: TokenIndex) -> Tensor:
        """The same from hidden states [rows, width, d] that are at hand."""
        return token_logprobs(
            lambda features: self.policy(self._output(features)), self.vocabulary, hidden, batch, tokens
        )

    def answer_logprobs(self, hidden: Tensor, batch: EpisodeBatch) -> Tensor:
        """Log-probability of every token that the environment answered, float32 [T]."""
        return self.full_logprobs(hidden, batch, batch.observation_tokens())

    def full_logprobs(self, hidden: Tensor, batch: EpisodeBatch, tokens: TokenIndex) -> Tensor:
        """Log-probability of each indexed token where nothing is suppressed, float32 [T]."""
        return token_logprobs(self._output, self.vocabulary, hidden, batch, tokens)

    def _output(self, hidden: Tensor) -> Tensor:
        """Logits [., vocabulary] of hidden states [., d]."""
        network = self.network
        return logits_of(hidden, network.get_output_embeddings(), network.config, self.passes)


def logits_of(hidden: Tensor, layer: Callable[[Tensor], Tensor], config: Any, passes: Passes) -> Tensor:
    """Logits [., vocabulary] of hidden states [., d] from the output ``layer`` of a model with such a ``config``."""
    with passes.autocast(hidden.device):
        logits = layer(hidden)
    # What else an architecture does to them stands in its forward pass: Granite, Cohere, Gemma.
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if factor := getattr(config, "logit_scale", None):
        logits = logits * factor
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return logits


def token_logprobs(
    output: Callable[[Tensor], Tensor], vocabulary: int, hidden: Tensor, batch: EpisodeBatch, tokens: TokenIndex
) -> Tensor:
    """Log-probability of each indexed token, float32 [T]; ``output`` turns hidden states [T, d] into logits.

    Where all logits together would take much memory, they are computed in parts, and once more on the way back.
    """
    features = hidden[tokens.row, tokens.predicted_at]
    target = batch.ids[tokens.row, tokens.stands_at]

    def chosen(features: Tensor, target: Tensor) -> Tensor:
        return output(features).float().log_softmax(dim=-1).gather(1, target[:, None])[:, 0]

    at_once = max(1, LOGITS_AT_ONCE // vocabulary)
    if len(target) <= at_once:
        return chosen(features, target)
    parts = zip(torch.split(features, at_once), torch.split(target, at_once), strict=True)
    return torch.cat([cast(Tensor, checkpoint(chosen, *part, use_reentrant=False)) for part in parts])
