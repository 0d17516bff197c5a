"""Conversations into the tokens of whoever is to read them, and which of them it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from archer.config import RolloutConfig
from archer.envs.base import ScriptedGame
from archer.rollout.demonstrations import to_episode
from archer.rollout.history import HISTORIES
from archer.rollout.layouts import LAYOUTS, layout_of
from archer.storage.conversations import ConversationError, Problem, listed, problem_of, refuse
from archer.types import Episode


def with_fitting_lines(
    games: Sequence[ScriptedGame], rollout: RolloutConfig, *, skip: bool
) -> tuple[list[ScriptedGame], list[Problem]]:
    """The games whose utterances the layout can hold, and the others; ConversationError for those unless ``skip``."""
    if not LAYOUTS[rollout.layout].one_line:
        return list(games), []
    layout = f"rollout.layout={rollout.layout!r}"
    reason = f"an utterance has several lines, and {layout} is for utterances of one line; choose another layout"
    kept: list[ScriptedGame] = []
    problems: list[Problem] = []
    for number, game in enumerate(games, start=1):
        if any("\n" in utterance for utterance in game.utterances):
            problems.append(problem_of(game, number, reason))
        else:
            kept.append(game)
    _refuse_unless(skip, problems, left=len(kept))
    return kept, problems


def in_tokens(
    games: Sequence[ScriptedGame],
    tokenizer: Any,
    rollout: RolloutConfig,
    limit: int,
    what_limits: str,
    *,
    skip: bool = False,
    seed: Callable[[int], int] = lambda index: 0,
    task: str = "",
    report: Callable[[int], None] = lambda games: None,
) -> tuple[list[Episode], list[Problem]]:
    """Conversations as an agent with a run's layout and history reads them, and those that it cannot read.

    limit: most tokens; ``what_limits`` says in words why, and what to do. seed: of each episode, by its place.
    Raises ConversationError where there is what cannot be read and ``skip`` is not set, and where nothing is left.
    """
    prompts, history = layout_of(rollout)(tokenizer), HISTORIES[rollout.history]
    room = rollout.max_tokens - rollout.utterance_tokens
    episodes: list[Episode] = []
    problems: list[Problem] = []
    for index, game in enumerate(games):
        report(1)
        try:
            episode = to_episode(
                game, prompts, seed=seed(index), task=task, history=history, room=room, limit=limit
            )  # fmt: skip
        except ValueError as error:  # a chat template that refuses such a conversation
            problems.append(problem_of(game, index + 1, str(error)))
            continue
        if episode.tokens_read > limit:
            problems.append(problem_of(game, index + 1, f"it has {episode.tokens_read} tokens, and {what_limits}"))
        else:
            episodes.append(episode)
    _refuse_unless(skip, problems, left=len(episodes))
    return episodes, problems


def _refuse_unless(skip: bool, problems: Sequence[Problem], *, left: int) -> None:
    if not skip:
        refuse(problems)
    if problems and not left:
        raise ConversationError(f"no conversation is left:\n{listed(problems)}")
