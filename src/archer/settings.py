"""Configuration from layers: a preset, then a YAML file, then flags; every mistake names its field."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from archer.config import RunConfig

_ADAPTER = TypeAdapter(RunConfig)


class ConfigError(ValueError):
    """A setting that cannot be: the message names source, field, what was given and what is allowed."""


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Every setting as plain nested values."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """The complete configuration, as ``overlay`` reads it."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def overlay(
    base: RunConfig, changes: Mapping[str, Any], source: str, lines: Mapping[str, int] | None = None
) -> RunConfig:
    """``base`` with nested ``changes``; raises ConfigError naming ``source``, the field and, if known, its line."""
    lines = lines or {}
    merged = _merge(to_dict(base), changes, source, lines, "")
    try:
        return _ADAPTER.validate_python(merged)
    except ValidationError as error:
        problems = [
            f"{_place(source, lines, field)}: {field or 'settings'}: {e['msg']}, got {e['input']!r}"
            for e in error.errors()
            for field in [".".join(map(str, e["loc"]))]
        ]
        raise ConfigError("\n".join(problems)) from None


def load_yaml(base: RunConfig, path: Path) -> RunConfig:
    """``base`` with the settings of a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if content is None:
        return base
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings as `name: value` lines, got {type(content).__name__}")
    return overlay(base, content, str(path), dict(_lines(yaml.compose(text), "")))


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
            parsed = yaml.safe_load(value)
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


def _place(source: str, lines: Mapping[str, int], field: str) -> str:
    """The source, with the line of the field or of the nearest one around it."""
    while field and field not in lines:
        field = field.rpartition(".")[0]
    return f"{source}, line {lines[field]}" if field else source


def _merge(
    base: dict[str, Any], changes: Mapping[str, Any], source: str, lines: Mapping[str, int], prefix: str
) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        field = f"{prefix}{key}"
        if key not in base:
            close = difflib.get_close_matches(str(key), base, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            place = _place(source, lines, field)
            raise ConfigError(f"{place}: unknown setting {field}{hint} (known here: {', '.join(base)})")
        nested = isinstance(base[key], dict) and field != "env.options"
        if nested and not isinstance(value, Mapping):
            place = _place(source, lines, field)
            raise ConfigError(f"{place}: {field} holds settings of its own ({', '.join(base[key])}), got {value!r}")
        merged[key] = _merge(base[key], value, source, lines, f"{field}.") if nested else value
    return merged
