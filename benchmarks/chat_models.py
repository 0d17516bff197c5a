"""A chat model learns a built-in task through adapters, wherever its games are played and however many processes learn.

    python benchmarks/chat_models.py --runs /tmp/chat              # guess-number, all ways; resumable
    python benchmarks/chat_models.py --runs /tmp/chat --ways alone

A model of Qwen2's shape with random weights and a ChatML template is fine-tuned in full on the demonstrations, as
somebody would bring it, and exported. From there `archer` learns through LoRA adapters: once from the demonstrations'
rewards, then from games, in one process, with two players of a Ray cluster on this machine, and in two processes that
learn as one (gloo), with the frozen model whole and in shards. Prints a JSON object for the start and each way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from transformers import AutoConfig, AutoModelForCausalLM

from archer.beginning import gather_demonstrations
from archer.config import RunConfig
from archer.config.layers import overlay
from archer.envs import make_factory
from archer.models.tiny import train_tokenizer
from archer.progress import Progress
from archer.rollout.demonstrations import texts
from archer.rollout.prompts import PlainText
from archer.storage.runfolder import RunFolder

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHAPE = {
    "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
ALIKE = ["rollout.layout=chat", "demonstrations.games=4000", "threads=1"]
CLONED = [
    "iterations=0", "critic.method=none", "actor.method=none", "rollout.best_of=0", "critic_start.epochs=0",
    "actor_start.epochs=0", "demonstrations.games=2000", "supervised.epochs=3",
]  # fmt: skip
BEGUN = [
    "iterations=0", "model.lora.rank=64", "supervised.epochs=0", "critic_start.epochs=3",
    *(f"{part}.matrix_lr=0" for part in ("supervised", "critic_start", "actor_start", "critic", "actor")),
    "critic_start.lr=0.003", "actor_start.lr=0.01", "critic.lr=0.001", "actor.lr=0.002",
]  # fmt: skip
PLAYED = [
    "iterations=5", "rollout.games=96", "rollout.best_of=0", "critic.updates=30", "actor.updates=20", "eval.every=0",
    "eval.final_games=1000",
]  # fmt: skip
ARCHER = [sys.executable, "-m", "archer"]
PAIR = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "archer"]
WAYS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "alone": (ARCHER, [], []),
    "cluster": (ARCHER, ["--cluster", "local", "--workers", "2"], ["cluster.chunk=16"]),
    "two processes": (PAIR, [], []),
    "two in shards": (PAIR, [], ["model.sharding=full"]),
}
"""How the command is started, and what it is told besides."""


@dataclass(frozen=True)
class ChatModels:
    """A chat model with adapters, trained in several ways."""

    runs: Path
    """Folder of the runs; what is there is not done again."""
    ways: tuple[str, ...] = tuple(WAYS)
    """Of `alone`, `cluster`, `two processes`, `two in shards`."""
    env: str = "guess-number"
    """A task with a demonstrator."""
    seed: int = 0
    """Of everything."""
    set: tuple[str, ...] = ()
    """Further settings of what is played, such as iterations=4."""


def main() -> None:
    """Fine-tune and begin once, and play on in every way that was asked for."""
    asked = tyro.cli(ChatModels, description=__doc__)
    first = ["--preset", "archer", "--env", asked.env, "--seed", str(asked.seed)]
    model = fine_tuned(asked, first)
    begun = asked.runs / "begun"
    start = train(begun, ARCHER, first, [*ALIKE, f"model.actor={model}", *BEGUN])
    report("before the first game", start)
    for way in asked.ways:
        launcher, options, settings = WAYS[way]
        run = asked.runs / way.replace(" ", "-")
        going_on = ["--start-from", str(begun), *options]
        report(way, train(run, launcher, going_on, [*PLAYED, *settings, *asked.set], options))


def report(way: str, summary: dict[str, Any]) -> None:
    """What came of it, as a line."""
    kept = ("start_return", "start_ci95", "return_mean", "return_ci95", "reference_return", "games")
    print(json.dumps({"way": way, **{name: summary[name] for name in kept}}), flush=True)


def train(
    run: Path, launcher: list[str], options: list[str], settings: list[str], again: Sequence[str] = ()
) -> dict[str, Any]:
    """Train, go on with what is half done (with the options ``again``), or look up what is done."""
    folder = RunFolder(run)
    if not folder.summary_file.exists():
        command = [*launcher, "train", "--resume", str(run), *again]
        if not run.exists():
            command = [*launcher, "train", "--run", str(run), *options, "--set", *settings]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return folder.summary()


def fine_tuned(asked: ChatModels, first: list[str]) -> Path:
    """The model, fine-tuned and exported."""
    out = asked.runs / "model"
    if not out.exists():
        base = asked.runs / "base"
        save_base(base, asked)
        train(asked.runs / "cloned", ARCHER, first, [*ALIKE, f"model.actor={base}", *CLONED])
        exporting = [*ARCHER, "export", str(asked.runs / "cloned"), "--out", str(out)]
        subprocess.run(exporting, check=True, stdout=sys.stderr)
    return out


def save_base(path: Path, asked: ChatModels) -> None:
    """A model of Qwen2's shape that has learned nothing, with a tokenizer of the task's language."""
    config = overlay(RunConfig(), {"env": {"name": asked.env}, "seed": asked.seed}, "benchmark")
    games, _ = gather_demonstrations(config, make_factory(asked.env, {}), Progress(quiet=True))
    tokenizer = train_tokenizer(texts(games, PlainText), 1024)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    shape = AutoConfig.for_model("qwen2", vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id,
                                 eos_token_id=tokenizer.eos_token_id, **SHAPE)  # fmt: skip
    AutoModelForCausalLM.from_config(shape).save_pretrained(path)
    tokenizer.save_pretrained(path)


if __name__ == "__main__":
    main()
