"""What a run's newest checkpoint has to say about games: its policy and its critic, loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

from archer.api import load, load_critic
from archer.models.critic import Critic
from archer.operations.playing import Advisor, Candidate
from archer.operations.scoring import Score, score_episodes
from archer.storage.checkpoint import CheckpointError
from archer.types import Episode, Ids
from archer.view.data import number

Places = list[tuple[int, int]]
"""(iteration, row) of games."""


class Judge:
    """A checkpoint's policy and critic."""

    def __init__(self, path: Path) -> None:
        self.lock = RLock()
        """Who uses the models holds it: their caches and tokenizer serve one at a time, and the server has threads."""
        self.run = load(path)
        self.critic: Critic | None = None
        with suppress(ValueError):  # where the method has none
            self.critic = load_critic(self.run)
        self.advisor = Advisor(self.run, self.critic)
        self.pages: dict[str, tuple[Places, dict[str, Any]]] = {}
        """The critic's page by the source of the games that it was judged on, and which they were."""
        self._special = set(self.run.actor.tokenizer.all_special_ids)

    @property
    def name(self) -> str:
        """What judges."""
        return f"the critic after {self.run.iteration} iterations"

    @property
    def chooses(self) -> bool:
        """Whether the critic can choose what to say: one of tokens has no Q."""
        return self.critic is not None and self.run.config.critic.method != "tokens"

    def scores(self, episode: Episode) -> Sequence[Score | None]:
        """Q and V of every turn; None without a critic."""
        if self.critic is None:
            return [None] * len(episode)
        with self.lock:
            return score_episodes(self.run, self.critic, [episode])[0]

    def tokens(self, ids: Ids) -> list[str]:
        """Every token as text; those that mean something to the model only, such as the one that stops, as ∎."""
        tokenizer = self.run.actor.tokenizer
        with self.lock:
            return ["∎" if token in self._special else str(tokenizer.decode([token])) for token in ids.tolist()]

    def siblings(self, episode: Episode, turn: int, count: int, draw: int) -> list[dict[str, Any]]:
        """``count`` utterances sampled now at a turn of a game, and what was said there, the critic's favourite first.

        draw: the same again or, with another number, others.
        """
        played = episode.turns[turn]
        with self.lock:
            offered = self.advisor.offer(played.prompt_ids, count, [episode.seed, turn, draw])
            said = next((one for one in offered if one.utterance.ids.tolist() == played.utterance.ids.tolist()), None)
            if said is None:
                (score,) = self.advisor.judge(played.prompt_ids, [played.utterance])
                said = Candidate(played.utterance, 0, score)
                offered.append(said)
        return [ranked(one) | {"said": one is said} for one in by_rank(offered)]


def by_rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The critic's favourite first; without a critic what came up most often."""
    return sorted(candidates, key=lambda one: (-one.score.q if one.score else 0.0, -one.times))


def ranked(candidate: Candidate) -> dict[str, Any]:
    """A candidate as the pages show it."""
    score = candidate.score
    return {
        "utterance": candidate.utterance.text,
        "times": candidate.times,
        "q": number(score.q) if score else None,
        "v": number(score.v) if score else None,
    }


@lru_cache(maxsize=4)
def judge_of(path: Path, checkpoint: str) -> Judge | None:
    """The judge of a run's newest checkpoint, of that name; None where it cannot be read any more."""
    try:
        return Judge(path)
    except CheckpointError:
        return None
