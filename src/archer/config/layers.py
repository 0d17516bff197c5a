"""Configuration from layers: a preset, then a YAML file, then flags; every mistake names its field."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from archer.config import RunConfig

_ADAPTER = TypeAdapter(RunConfig)
ARGUMENTS = frozenset({"env.options", "rollout.vllm"})
"""Settings that hold somebody else's keyword arguments, whatever they are called."""


IN_YAML = {
    "tuple_type": "a list is needed, such as [one, two]",
    "dict_type": "names with values are needed, such as {name: value}",
}
"""What pydantic has Python's words for."""


class ConfigError(ValueError):
    """A setting that cannot be: the message names source, field, what was given and what is allowed."""


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in JSON and YAML 1.2, and no name stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands here for the second time", key.start_mark
                )
            names.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what that reads: a text that looks like a number stands in quotes."""


for kind in (_Loader, _Dumper):
    kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Every setting as plain nested values."""
    return dataclasses.asdict(config)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names: ``{"critic": {"lr": 1e-4}}`` as ``{"critic.lr": 1e-4}``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def to_yaml(config: RunConfig) -> str:
    """The complete configuration, as ``overlay`` reads it."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False)


@dataclass(frozen=True)
class Layer:
    """Nested settings that change those below them, and where they come from."""

    changes: Mapping[str, Any]
    source: str
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of each dotted field, where the source has lines."""

    def place(self, field: str) -> str:
        """The source, with the line of the field or of the nearest one around it."""
        while field and field not in self.lines:
            field = field.rpartition(".")[0]
        return f"{self.source}, line {self.lines[field]}" if field else self.source


def build(base: RunConfig, layers: Sequence[Layer]) -> RunConfig:
    """``base`` with all layers, the later one winning; checked once they are all on.

    Raises ConfigError naming the field, the layer that set it and, if known, its line.
    """
    merged = to_dict(base)
    set_by: dict[str, str] = {}
    for layer in layers:
        merged = _merge(merged, layer, "", set_by)
    try:
        return _ADAPTER.validate_python(merged)
    except ValidationError as error:
        problems = []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            place = _nearest(set_by, name) or ", ".join(dict.fromkeys(layer.source for layer in layers))
            message = IN_YAML.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
            # What is said of a whole part names the settings in question itself.
            got = "" if isinstance(fault["input"], dict) else f", got {fault['input']!r}"
            problems.append(f"{place}: {name}: {message}{got}" if name else f"{place}: {message}")
        raise ConfigError("\n".join(problems)) from None


def overlay(base: RunConfig, changes: Mapping[str, Any], source: str) -> RunConfig:
    """``base`` with one layer."""
    return build(base, [Layer(changes, source)])


def load_yaml(base: RunConfig, path: Path) -> RunConfig:
    """``base`` with the settings of a YAML file."""
    return build(base, [read_yaml(path)])


def read_yaml(path: Path) -> Layer:
    """The settings of a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML that settings are read from: {error}") from None
    if content is None:
        return Layer({}, str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings as `name: value` lines, got {type(content).__name__}")
    return Layer(content, str(path), dict(_lines(yaml.compose(text), "")))


def parse_assignment(text: str) -> dict[str, Any]:
    """``critic.lr=1e-4`` as ``{"critic": {"lr": 1e-4}}``; the value is read as YAML."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"a setting is written name=value, got {text!r}")
    try:
        parsed: Any = float(value)
        parsed = int(value) if parsed == int(parsed) and value.lstrip("+-").isdigit() else parsed
    except (ValueError, OverflowError):
        try:
            parsed = yaml.load(value, _Loader)
        except yaml.YAMLError:
            raise ConfigError(f"{name}: the value {value!r} is not YAML") from None
    for part in reversed(name.split(".")):
        parsed = {part: parsed}
    assert isinstance(parsed, dict)
    return parsed


def _lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Every dotted field of a YAML document with the line it stands on."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            field = f"{prefix}{key.value}"
            yield field, key.start_mark.line + 1
            yield from _lines(value, f"{field}.")


def _nearest(set_by: Mapping[str, str], field: str) -> str | None:
    """Who set a field, or the part around it, or was the last to set a part of it."""
    around = field
    while around and around not in set_by:
        around = around.rpartition(".")[0]
    if around:
        return set_by[around]
    within = [place for name, place in set_by.items() if field and name.startswith(f"{field}.")]
    return within[-1] if within else None


def _merge(base: dict[str, Any], layer: Layer, prefix: str, set_by: dict[str, str]) -> dict[str, Any]:
    merged, changes = dict(base), _under(layer.changes, prefix)
    if prefix == "env." and changes.get("name", base["name"]) != base["name"]:
        merged["options"] = {}  # those there are were another task's
    for key, value in changes.items():
        field = f"{prefix}{key}"
        place = layer.place(field)
        if key not in base:
            close = difflib.get_close_matches(str(key), base, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise ConfigError(f"{place}: unknown setting {field}{hint} (known here: {', '.join(base)})")
        nested = isinstance(base[key], dict) and field not in ARGUMENTS
        if nested and not isinstance(value, Mapping):
            raise ConfigError(f"{place}: {field} holds settings of its own ({', '.join(base[key])}), got {value!r}")
        if not nested:
            set_by.pop(field, None)  # so that the last one to set anything stands last
            set_by[field] = place
        if nested:
            merged[key] = _merge(base[key], layer, f"{field}.", set_by)
        elif field in ARGUMENTS and isinstance(value, Mapping):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return merged


def _under(changes: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    for part in prefix.split(".")[:-1]:
        changes = changes[part]
    return changes
