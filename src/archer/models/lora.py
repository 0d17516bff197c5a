"""Adapters (LoRA, Hu et al. 2021; DoRA, Liu et al. 2024): networks on one frozen model, few weights of its own each."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GenerationConfig

from archer.config import LoraConfig
from archer.devices.sharding import copy_of, put_together
from archer.extras import need

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of a model's own weights in its files."""


class Base:
    """A frozen causal LM under the adapters of several networks."""

    def __init__(self, model: Any, config: LoraConfig) -> None:
        self._peft = need("peft", "lora")
        self.model = model.requires_grad_(False)
        self._config = config
        self._targets: Any = "all-linear" if config.targets == ("all-linear",) else list(config.targets)
        self._layers: list[Any] = []
        self._names = 0

    def add(self) -> tuple[str, list[nn.Parameter]]:
        """A new adapter, which changes nothing yet: its name and its weights, in float32."""
        name = f"network{self._names}"
        self._names += 1
        learn = [p for p in self.model.parameters() if p.requires_grad]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*multiple adapters.*")  # they are what we are after
            with put_together(self.model):  # DoRA measures them
                self._peft.inject_adapter_in_model(self.settings(self._targets), self.model, adapter_name=name)
        kinds = self._peft.tuners.lora.LoraLayer
        found = [(key, part) for key, part in self.model.named_modules() if isinstance(part, kinds)]
        self._layers = [part for _, part in found]
        # By their names from now on: "all linear layers" would hold those of the first adapter too.
        self._targets = sorted({key.rpartition(".")[2] for key, _ in found})
        for parameter in learn:  # those of other networks, which the library holds still while a new one begins
            parameter.requires_grad_(True)
        weights = [p for key, p in self.model.named_parameters() if name in key.split(".")]
        for parameter in weights:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        return name, weights

    def remove(self, name: str) -> None:
        """Forget an adapter whose network is gone."""
        for layer in self._layers:
            layer._active_adapter = []
            layer.delete_adapter(name)
        del self.model.peft_config[name]

    def settings(self, targets: Any) -> Any:
        """What PEFT is told, and what its files say."""
        return self._peft.LoraConfig(
            r=self._config.rank, lora_alpha=self._config.alpha, use_dora=self._config.dora, target_modules=targets,
            task_type="CAUSAL_LM", base_model_name_or_path=self.model.name_or_path,
        )  # fmt: skip

    def activate(self, name: str) -> None:
        """Let passes go through one network's adapter.

        Not through PEFT's own ``set_adapter``, which also decides who learns: here several do, in turns.
        """
        for layer in self._layers:
            layer._active_adapter = [name]

    def save(self, name: str, folder: Path) -> None:
        """One adapter as PEFT's and transformers' own loaders read it."""
        self.describe(folder)
        state = self._peft.get_peft_model_state_dict(self.model, adapter_name=name)
        save_file({PREFIX + key: value.contiguous() for key, value in state.items()}, folder / WEIGHTS)

    def describe(self, folder: Path) -> None:
        """What stands beside an adapter's weights: how it is built, what the model never says and where it stops."""
        folder.mkdir(parents=True, exist_ok=True)
        self.settings(self._targets).save_pretrained(folder)
        self.model.generation_config.save_pretrained(folder)

    def load(self, name: str, folder: Path, device: str) -> None:
        """Take one adapter's weights, and what the model never says and where it stops, from such files."""
        state = load_file(folder / WEIGHTS, device)
        self._peft.set_peft_model_state_dict(
            self.model, {key.removeprefix(PREFIX): value for key, value in state.items()}, adapter_name=name
        )
        self.model.generation_config = GenerationConfig.from_pretrained(folder)

    @torch.no_grad()
    def merged(self, name: str) -> dict[str, torch.Tensor]:
        """Weights of the model with one adapter worked into them, under its own names."""
        state = {
            key.replace(".base_layer.", "."): value
            for key, value in self.model.state_dict().items()
            if not any(part.startswith("lora_") for part in key.split("."))
        }
        for key, layer in self.model.named_modules():
            if layer in self._layers:
                weight = layer.get_base_layer().weight
                original = weight.data
                layer.merge(safe_merge=True, adapter_names=[name])  # in a copy
                state[f"{key}.weight"], weight.data = weight.data, original
                layer.merged_adapters.clear()
        return state


class Adapted(nn.Module):
    """A network on a shared base. Its own weights are its adapter's; a copy of it is another adapter beside it.

    decoder: without the output layer.
    """

    def __init__(self, base: Base, *, decoder: bool = False) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple, so that its weights are not taken for this network's own
        self.decoder = decoder
        self.name, weights = base.add()
        self.weights = nn.ParameterList(weights)
        weakref.finalize(self, base.remove, self.name).atexit = False

    @property
    def base(self) -> Base:
        return self._base[0]

    @property
    def beneath(self) -> nn.Module:
        """The model that it stands on."""
        model: nn.Module = self.base.model
        return model

    @property
    def network(self) -> Any:
        """The model, passing through this network's adapter until another's is asked for."""
        self.base.activate(self.name)
        return self.base.model.base_model if self.decoder else self.base.model

    @torch.no_grad()
    def copy(self, *, decoder: bool) -> Adapted:
        """Another network on the same base, with weights of its own that begin as these are."""
        other = Adapted(self.base, decoder=decoder)
        for theirs, mine in zip(other.weights, self.weights, strict=True):
            theirs.copy_(mine)
            theirs.requires_grad_(mine.requires_grad)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Adapted:
        return self.copy(decoder=self.decoder)

    def save(self, folder: Path) -> None:
        """Its adapter as PEFT's and transformers' own loaders read it."""
        self.base.save(self.name, folder)

    def describe(self, folder: Path) -> None:
        """The same without the weights."""
        self.base.describe(folder)

    def load(self, folder: Path, device: str) -> None:
        """Take its adapter's weights from such a folder."""
        self.base.load(self.name, folder, device)


def inside(network: Any) -> Any:
    """The transformers model of a network, ready for a pass: itself, or the base under its adapter."""
    return network.network if isinstance(network, Adapted) else network


def decoder_copy(network: Any) -> Any:
    """A copy of a causal LM without its output layer."""
    return network.copy(decoder=True) if isinstance(network, Adapted) else copy_of(network.base_model)


def output_copy(network: Any) -> nn.Module | None:
    """A copy of a causal LM's output layer, for a copy of its decoder; None where that has one already: its own
    embeddings, which are the same weights, or what is on the base that both stand on."""
    if isinstance(network, Adapted):
        return None
    layer = network.get_output_embeddings()
    tied = layer.weight is network.get_input_embeddings().weight and getattr(layer, "bias", None) is None
    return None if tied else copy_of(layer)
