"""A trained policy as a folder that others load: weights or adapter, tokenizer, and a card that says what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from archer.api import LoadedRun, load
from archer.beginning import PRECISIONS
from archer.models.actor import Actor
from archer.models.lora import Adapted
from archer.storage.files import sync


def export(run: Path, out: Path, *, merge: bool) -> dict[str, Any]:
    """Write the newest policy of ``run`` to the new folder ``out``; what it is, as the command tells.

    merge: work an adapter into the model that it adapts. Raises ValueError where ``out`` is taken or there is no
    adapter to merge.
    """
    if out.exists():
        raise ValueError(f"--out: {out} exists already; name a new folder")
    loaded = load(run)
    adapted = isinstance(loaded.actor.model, Adapted)
    if merge and not adapted:
        raise ValueError(f"--merge: {run} trained all weights, there is no adapter to merge; leave it out")
    unfinished = out.with_name(f".{out.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        if merge:
            _merged(loaded).save_pretrained(unfinished)
        else:
            shutil.copytree(loaded.checkpoint / "actor", unfinished)
        (unfinished / "README.md").write_text(card(loaded, adapter=adapted and not merge), encoding="utf-8")
        for path in sorted(unfinished.rglob("*")):
            sync(path)
        unfinished.rename(out)
        sync(out.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    kind = "adapter" if adapted and not merge else "model"
    return {"folder": str(out), "kind": kind, "iteration": loaded.iteration}


def _merged(run: LoadedRun) -> Actor:
    """The policy as a model of its own."""
    config, adapter = run.config.model, run.actor.model
    assert config.actor is not None, "refused with the settings"
    actor = Actor.from_pretrained(config.actor, PRECISIONS[config.precision])
    actor.model.load_state_dict(adapter.base.merged(adapter.name))
    actor.model.generation_config = run.actor.network.generation_config
    actor.tokenizer = run.actor.tokenizer
    return actor


def card(run: LoadedRun, *, adapter: bool) -> str:
    """A model card in the hub's form: what was trained on what, with which results, and how to talk to it."""
    config, rows = run.config, run.folder.metrics()
    measured = [row for row in rows if row.get("eval/return_mean") is not None]
    results = [(int(row["games"]), row["eval/return_mean"], row["eval/return_ci95"]) for row in measured]
    if run.folder.summary_file.exists() and (end := run.folder.summary())["return_mean"] is not None:
        results.append((end["games"], end["return_mean"], end["return_ci95"]))
    head = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["archer", "reinforcement-learning", "multi-turn"],
    } | ({"base_model": config.model.actor} if config.model.actor else {})
    task = config.env.name or "recorded conversations"
    return "\n".join(
        [
            "---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "",
            f"# Policy of {task}", "",
            f"Trained by archer, preset `{config.preset}`, seed {config.seed}, {run.iteration} iterations, "
            f"{int(rows[-1]['games']) if rows else 0} games.", "",
            f"| games | return of evaluation games ({config.eval.played_by}), 95 % interval |", "|---|---|",
            *(f"| {games} | {mean:.3f} ± {half:.3f} |" for games, mean, half in results[:1] + results[1:][-1:]), "",
            f"Conversations are laid out by `rollout.layout={config.rollout.layout}` and cut by "
            f"`rollout.history={config.rollout.history}`; utterances were sampled at temperature "
            f"{config.rollout.temperature:g} and end with `{run.actor.tokenizer.eos_token}`.", "",
            "All settings:", "", "```yaml", run.folder.config_file.read_text(encoding="utf-8").rstrip(), "```", "",
        ]
    )  # fmt: skip
