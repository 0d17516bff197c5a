"""A run's settings: a preset's recipe for a task, then what is wanted otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archer.algorithms.presets import PRESETS
from archer.config import RunConfig
from archer.config.layers import ConfigError, Layer, build, flatten, to_dict
from archer.envs.loading import closest


def configure(
    preset: str = "archer", env: str | None = RunConfig().env.name, changes: Mapping[str, Any] | None = None
) -> RunConfig:
    """The settings of a preset for a task, as ``archer train --preset ... --env ...`` has them.

    env: a name of ``archer envs`` or ``package.module:Name``, None for no task. changes: nested settings that are
    wanted otherwise, ``{"critic": {"lr": 1e-4}}``. Raises ConfigError naming what cannot be.
    """
    layers = [Layer({"preset": preset}, "configure"), Layer(changes or {}, "changes")]
    return compose(layers, preset=preset, env=env)


def compose(layers: Sequence[Layer], *, preset: str, env: str | None) -> RunConfig:
    """The recipe that the layers name in ``preset`` and ``env.name``, and those that it is not named in have from
    ``preset`` and ``env``, then all layers, the later one winning.

    Raises ConfigError for what cannot be, and where two layers name different presets: the settings of one would hide
    under the name of the other.
    """
    name, source = preset, "preset"
    for number, (place, value) in enumerate(_said(layers, "preset")):
        if number and value != name:
            raise ConfigError(f"{place}: preset is {value!r}, and {source} says {name!r}; leave one of them out")
        name, source = value, place
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{source}: {_unknown(name)}")
    task = last_said(layers, "env.name", env)
    recipe = [
        Layer({"preset": name, "env": {"name": task}}, f"preset {name}"),
        Layer(PRESETS[name].settings(task if isinstance(task, str) else None), f"preset {name}"),
    ]
    return build(RunConfig(), [*recipe, *layers])


def last_said(layers: Sequence[Layer], field: str, default: Any) -> Any:
    """What a dotted field is set to, which the last layer that does so decides."""
    return [default, *(value for _, value in _said(layers, field))][-1]


def _said(layers: Sequence[Layer], field: str) -> list[tuple[str, Any]]:
    """Where a dotted field is set and to what, layer by layer."""
    settings = [(layer, flatten(layer.changes)) for layer in layers]
    return [(layer.place(field), flat[field]) for layer, flat in settings if field in flat]


def check_label(config: RunConfig) -> None:
    """Refuse settings that carry the name of a preset and have nothing of it: comparisons would call them that."""
    if config.preset not in PRESETS:
        raise ConfigError(_unknown(config.preset))
    plain, own = flatten(to_dict(RunConfig())), flatten(to_dict(config))
    recipe, common = (flatten(PRESETS[name].settings(config.env.name)) for name in (config.preset, "archer"))
    marks = {name: value for name, value in recipe.items() if value not in (plain.get(name), common.get(name))}
    if marks and all(own.get(name) != value for name, value in marks.items()):
        raise ConfigError(
            f"preset={config.preset!r} is only the name that comparisons call these settings by, and they have nothing "
            f"of its recipe; archer.configure({config.preset!r}) makes its settings"
        )


def _unknown(name: object) -> str:
    return f"unknown preset {name!r}{closest(str(name), PRESETS) or '.'} Known: {', '.join(PRESETS)}"
