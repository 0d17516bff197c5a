"""What a run's critic thinks of conversations, utterance by utterance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer.api import LoadedRun, load_critic
from archer.envs.base import ScriptedGame
from archer.intake import in_tokens
from archer.models.critic import Critic, values_in_parts
from archer.progress import Progress
from archer.storage.conversations import Problem
from archer.types import Episode


@dataclass(frozen=True)
class Score:
    """One utterance, in units of discounted return; of both heads of Q and V the lesser."""

    utterance: str
    q: float
    """What is to come when this is said."""
    v: float
    """What is to come on average at this point."""

    @property
    def advantage(self) -> float:
        """How much better than the average it is to say this."""
        return self.q - self.v


def score(run: LoadedRun, games: Sequence[ScriptedGame], progress: Progress | None = None) -> list[list[Score]]:
    """Q and V of every utterance: a list per conversation, with a score per turn."""
    progress = progress or Progress(quiet=True)
    critic, episodes = load_critic(run), recorded_episodes(run, games)[0]
    progress.stage("judging", len(episodes), unit="conversations")
    return score_episodes(run, critic, episodes, progress.count)


def score_episodes(
    run: LoadedRun, critic: Critic, episodes: Sequence[Episode], report: Callable[[int], None] = lambda games: None
) -> list[list[Score]]:
    """The same of episodes, by a critic that is at hand; ``report`` hears how many more are judged."""
    scores: list[list[Score]] = []
    for part, values in values_in_parts(critic, episodes, by_token=run.config.critic.method == "tokens"):
        found = zip(values.q.amin(dim=-1).tolist(), values.v.amin(dim=-1).tolist(), strict=True)
        scores += [[Score(turn.utterance.text, *next(found)) for turn in episode.turns] for episode in part]
        report(len(part))
    return scores


def recorded_episodes(
    run: LoadedRun, games: Sequence[ScriptedGame], *, skip: bool = False
) -> tuple[list[Episode], list[Problem]]:
    """Conversations in the run's tokens and layout, and those that its model cannot read.

    Raises ConversationError, which names these, unless ``skip`` is set.
    """
    limit = run.actor.context or sys.maxsize
    reads = f"the model reads {limit} at most"
    return in_tokens(games, run.actor.tokenizer, run.config.rollout, limit, reads, skip=skip)
