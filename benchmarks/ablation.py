"""What each part of `archer` is worth: the recipe without one of them, and the paper's method with one of them.

    python benchmarks/ablation.py --seeds 3

The runs of a seed go on from the supervised start that `sample_efficiency.py` goes on from too and play the same number
of games. What `archer` learns before its first game is learned once per seed: variants that do not change it go on from
there. All can be stopped and go on. Of a finished run, what the tables read is kept in benchmarks/kept_ablation. The
tables of docs/results.md are written anew from all that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from results import PAGE, keep, kept_folder, replace_block, table
from running import Benchmark, from_start, train_all, train_begun, train_starts

from archer.comparison.compare import compare
from archer.comparison.intervals import estimate
from archer.comparison.methods import Method
from archer.report.comparison_tables import estimate_text

KEPT = kept_folder("kept_ablation")
"""What is kept of finished runs: TASK/RECIPE/VARIANT/seed-N."""


@dataclass(frozen=True)
class Variant:
    """A recipe with one part less, or one more."""

    what: str
    settings: tuple[str, ...] = ()
    before: bool = False
    """Whether that changes what is learned before the first game."""


@dataclass(frozen=True)
class Recipe:
    """A preset, and what is left out of it or added to it; the variant ``whole`` is the recipe itself."""

    preset: str
    games: int
    """Games that each run plays, and ``each`` of them an iteration."""
    each: int
    settings: tuple[str, ...]
    variants: Mapping[str, Variant]
    begins: bool
    """Whether it learns from the demonstrations' rewards before its first game."""

    def goes_on(self, variant: str) -> bool:
        """Whether a variant goes on from what `archer` learns before its first game, rather than from the start."""
        return self.begins and not self.variants[variant].before

    def arguments(self, variant: str, env: str, seed: int, begun: Path) -> list[str]:
        """How a variant is trained."""
        return from_start(
            self.preset, env, seed, begun,
            "eval.every=4", f"rollout.games={self.each}", f"iterations={self.games // self.each}",
            *self.settings, *self.variants[variant].settings,
        )  # fmt: skip


WITHOUT = Recipe(
    "archer",
    576,
    48,
    (),
    {
        "whole": Variant("`archer`"),
        "starts": Variant(
            "nothing learned from rewards before the first game",
            ("critic_start.epochs=0", "actor_start.epochs=0"),
            before=True,
        ),
        "actor-start": Variant("the actor begins as the supervised start", ("actor_start.epochs=0",), before=True),
        "short-traces": Variant(
            "the critic begins with whole returns", ("critic_start.trace=1.0", "critic_start.expectile=0.5"),
            before=True,
        ),
        "following": Variant(
            "the critic does not follow the actor's start", ("actor_start.critic_rounds=0",), before=True
        ),
        "demonstrations": Variant(
            "no demonstrations in the batches", ("critic.demonstrations=0.0", "actor.demonstrations=0.0")
        ),
        "retrace": Variant("one-step TD", ("critic.method=td", "critic.trace=0.0")),
        "choice": Variant("games are played without the critic's choice", ("rollout.best_of=0",)),
        "awr": Variant(
            "REINFORCE on fresh siblings, as `archer-reinforce`",
            (
                "actor.method=reinforce", "actor.utterances=fresh", "actor.advantage=siblings", "actor.kl=0.1",
                "actor.updates=4", "actor.batch_turns=192", "actor.newest_turns=2000", "actor.demonstrations=0.0",
                "actor.matrix_lr=0.0",
            ),
        ),
        "answers": Variant("the critic does not predict answers", ("critic.answer_weight=0.0",), before=True),
        "muon": Variant(
            "AdamW alone, at 1e-3", ("critic.matrix_lr=0.0", "actor.matrix_lr=0.0", "critic.lr=1e-3", "actor.lr=1e-3")
        ),
        "ten": Variant("the critic chooses among five", ("rollout.best_of=5",)),
        "temperature": Variant("temperature .8", ("rollout.temperature=0.8",)),
        "old-games": Variant("learned from the newest games alone", ("replay_turns=0",)),
        "few-games": Variant("192 games an iteration", ("rollout.games=192", "iterations=3", "eval.every=1")),
        "average": Variant("the newest weights play", ("actor.average=0.0",)),
    },
    begins=True,
)  # fmt: skip
WITH = Recipe(
    "archer-reinforce",
    1536,
    128,
    (
        "critic.trace=0.0", "critic.discount=0.95", "critic.answer_weight=0.0", "critic.matrix_lr=0.0",
        "critic.updates=50", "actor.siblings=1", "actor.advantage=value", "actor.updates=3", "actor.kl=0.0",
    ),
    {
        "whole": Variant("the paper's method"),
        "lambda": Variant("λ-returns, λ = .9", ("critic.trace=0.9",)),
        "retrace": Variant("Retrace, λ = .95", ("critic.method=retrace", "critic.trace=0.95")),
        "siblings": Variant(
            "4 siblings, each against the mean of the others", ("actor.siblings=4", "actor.advantage=siblings")
        ),
        "kl": Variant("KL to the supervised start, weight .1", ("actor.kl=0.1",)),
        "answers": Variant("the critic predicts answers", ("critic.answer_weight=1.0",)),
        "muon": Variant("Muon for the critic's matrices", ("critic.matrix_lr=2e-3",)),
        "choice": Variant("games are played with the critic's choice among 10", ("rollout.best_of=10",)),
        "few-games": Variant("48 games an iteration", ("rollout.games=48", "iterations=32", "eval.every=8")),
        "critic-start": Variant("the critic begins with the demonstrations", ("critic_start.epochs=1",)),
        "starts": Variant(
            "critic and actor learn from the demonstrations' rewards before the first game",
            ("critic_start.epochs=1", "actor_start.epochs=1"),
        ),
        "demonstrations": Variant("a quarter demonstrations in the critic's batches", ("critic.demonstrations=0.25",)),
        "awr": Variant(
            "AWR on what was played",
            (
                "actor.method=awr", "actor.utterances=played", "actor.updates=40", "actor.batch_turns=384",
                "actor.newest_turns=6000", "actor.matrix_lr=1e-3",
            ),
        ),
    },
    begins=False,
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = {"without": WITHOUT, "with": WITH}
"""`archer` without one of its parts; the paper's method with one of ours. The latter is `archer-reinforce`, learning
rates and all, with one-step TD, one utterance sampled per state and its advantage over V, and neither KL nor Muon nor
answers to predict: the published rates teach the built-in models nothing in so few games."""


@dataclass(frozen=True)
class Ablation(Benchmark):
    """Recipes × variants × seeds on one task."""

    seeds: int = 3
    """How many seeds, from 0 on."""
    recipes: tuple[Literal["without", "with"], ...] = ("without", "with")
    """`archer` without a part, or the paper's method with one."""


def main() -> None:
    """Do what the command line says."""
    regenerate(tyro.cli(Ablation, description=__doc__))


def regenerate(chosen: Ablation) -> None:
    """Train what is missing, then write the tables."""
    kept, runs = KEPT / chosen.env, chosen.folder / "ablation"
    missing = [
        (seed, name, variant)
        for seed in range(chosen.seeds)
        for name in chosen.recipes
        for variant in RECIPES[name].variants
        if not (kept / name / variant / f"seed-{seed}").exists()
    ]
    starts = train_starts(chosen, sorted({seed for seed, *_ in missing}))
    later = {seed for seed, name, variant in missing if RECIPES[name].goes_on(variant)}
    begun = train_begun(chosen, {seed: start for seed, start in starts.items() if seed in later})
    train_all(
        chosen.jobs,
        {
            runs / name / variant / f"seed-{seed}": RECIPES[name].arguments(
                variant, chosen.env, seed, (begun if RECIPES[name].goes_on(variant) else starts)[seed]
            )
            for seed, name, variant in missing
        },
        lambda run: keep(run, kept / run.relative_to(runs)),
    )
    write_tables(chosen.env)


def write_tables(env: str) -> None:
    """The tables of docs/results.md, of the recipes that are kept whole at least."""
    kept = {name: KEPT / env / name for name in RECIPES}
    tables = [_ablated(kept[name], recipe) for name, recipe in RECIPES.items() if (kept[name] / "whole").is_dir()]
    replace_block(PAGE, f"{env} ablation", "\n\n".join(tables))


def _ablated(kept: Path, recipe: Recipe) -> str:
    """Markdown of what each variant of a recipe reached, and how far that is from the whole of it, seed by seed."""
    found: dict[str, Method] = {}
    for variant in recipe.variants:
        if (kept / variant).is_dir():
            (found[variant],) = compare([kept / variant]).methods
    whole = {repeat.seed: repeat.run.final for repeat in found["whole"].repeats}
    rows = [
        ["", "seeds", "before the first game", f"after {recipe.games:,} games", "difference, seed by seed"],
        ["---"] * 5,
    ]
    for variant, method in found.items():
        pairs = [(repeat.run.final, whole.get(repeat.seed)) for repeat in method.repeats]
        apart = [mine - other for mine, other in pairs if mine is not None and other is not None]
        rows.append(
            [
                recipe.variants[variant].what,
                str(len(method.repeats)),
                f"{method.start.value:.2f}",
                estimate_text(method.final),
                "" if variant == "whole" or not apart else estimate_text(estimate(apart)),
            ]
        )
    return table(rows)


if __name__ == "__main__":
    main()
