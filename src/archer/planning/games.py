"""The games that a plan is made for: as long as the settings allow, or as the demonstrations are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from archer.beginning import gather_demonstrations, read_demonstrations
from archer.config import RunConfig
from archer.envs.base import Environment
from archer.models.packing import in_parts, pack, stretch_lengths
from archer.models.tiny import train_tokenizer
from archer.progress import Progress
from archer.replay import draw
from archer.rollout.demonstrations import texts
from archer.rollout.layouts import LAYOUTS
from archer.rollout.prompts import PlainText
from archer.rollout.siblings import ROWS
from archer.types import End, Episode, Turn, Utterance

DRAWS = 50
"""Batches that are drawn to find a large one."""
ENOUGH = 512
"""Demonstrations that tell how long games are."""


@dataclass(frozen=True)
class Games:
    """Games to learn from."""

    pool: Sequence[Episode]
    assumed: str
    """Where their size is from, in words."""

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(episode.tokens_read for episode in self.pool)

    def batch(self, turns: int) -> list[Episode]:
        """As many as hold ``turns`` turns; of many draws, the one that takes most room."""
        generator = np.random.default_rng(0)
        return self._largest(draw(self.pool, turns, generator) for _ in range(self._draws))

    def several(self, count: int) -> list[Episode]:
        """``count`` games; of many draws, the one that takes most room."""
        generator = np.random.default_rng(1)
        count = min(count, len(self.pool))
        chosen = (generator.choice(len(self.pool), count, replace=False) for _ in range(self._draws))
        return self._largest([self.pool[index] for index in indices] for indices in chosen)

    def one_pass(self) -> list[Episode]:
        """As many as are read at once where nothing is learned from them; of all games, those that take most room."""
        longest = sorted(self.pool, key=lambda episode: -max(self._stretches[id(episode)]))
        return self._largest(longest[part] for part in in_parts(longest))

    def _largest(self, draws: Iterable[list[Episode]]) -> list[Episode]:
        """By the size of a batch's attention masks, the square of its width: what grows fastest."""

        def room(episodes: Sequence[Episode]) -> int:
            lengths = [length for episode in episodes for length in self._stretches[id(episode)]]
            return (max(pack(lengths)[0]) + 1) * max(lengths) ** 2

        return max(draws, key=room)

    @cached_property
    def _stretches(self) -> dict[int, list[int]]:
        """Tokens of the parts of each game that only grow, each a place on a row of a batch."""
        return {id(episode): stretch_lengths(episode) for episode in self.pool}

    @property
    def _draws(self) -> int:
        return 1 if len({(episode.tokens_read, len(episode)) for episode in self.pool}) == 1 else DRAWS


def games_of(
    config: RunConfig, make_env: Callable[[], Environment] | None, turns: int | None = None, tokens: int | None = None
) -> Games:
    """Games of ``turns`` turns and ``tokens`` tokens; where neither is given, the run's demonstrations, and without
    those (or a tokenizer for them) games as long as the settings allow."""
    rollout = config.rollout
    if turns is None and tokens is None and (shown := _demonstrations(config, make_env)):
        games = Games(shown, "")
        mean = sum(len(game) for game in shown) / len(shown)
        return replace(games, assumed=f"as {len(shown)} demonstrations: {mean:.1f} turns, up to {games.longest} tokens")
    why = "as told" if turns or tokens else "the most that rollout.max_turns and rollout.max_tokens allow"
    tokens = tokens or rollout.max_tokens
    turns = turns or max(1, min(rollout.max_turns, tokens // (2 * rollout.utterance_tokens)))
    return alike(config, turns, tokens, f"{why}: {turns} turns and {tokens} tokens each")


def _demonstrations(config: RunConfig, make_env: Callable[[], Environment] | None) -> list[Episode]:
    """Some of the run's demonstrations, in tokens; none where there are none or they cannot be tokenised here."""
    wanted = config.demonstrations
    if config.start_from is not None or not (wanted.files or (wanted.games and make_env)):
        return []
    few = ENOUGH if wanted.games is None else min(wanted.games, ENOUGH)
    config = replace(config, demonstrations=replace(wanted, games=few))
    games, _ = gather_demonstrations(config, make_env, Progress(quiet=True))
    if config.model.actor is None:
        layout = LAYOUTS[config.rollout.layout]
        assert issubclass(layout, PlainText), "refused with the settings"
        tokenizer: Any = train_tokenizer(texts(games, layout), config.model.tiny.vocabulary)
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(config.model.actor)
        except (OSError, ValueError):
            return []
    return read_demonstrations(config, games, tokenizer, "", Progress(quiet=True))[0]


def alike(config: RunConfig, turns: int, tokens: int, assumed: str) -> Games:
    """Games of ``turns`` turns and ``tokens`` tokens each, enough of them for any batch of the run.

    Half of what there is to read is said by the agent, up to ``rollout.utterance_tokens`` a turn. Where the agent reads
    everything anew in each turn (``rollout.history=replace``), every state is as long.
    """
    rewritten = config.rollout.history != "append"
    most = max(config.critic.batch_turns, config.actor.batch_turns, ROWS)
    count = max(64, -(-most // turns), config.supervised.batch_games)
    return Games([_game(turns, tokens, config.rollout.utterance_tokens, rewritten) for _ in range(count)], assumed)


def _game(turns: int, tokens: int, longest: int, rewritten: bool) -> Episode:
    said = max(1, min(longest, tokens // turns // 2))
    utterance = Utterance(np.zeros(said, np.int32), np.zeros(said, np.float32), "a " * said)
    whole = np.zeros(max(tokens, turns * (said + 1)), np.int32)
    ends = [len(whole) * (turn + 1) // turns for turn in range(turns)]
    played = []
    for number, end in enumerate(ends):
        state = np.full(len(whole) - said, number + 1, np.int32) if rewritten else whole[: end - said]
        played.append(Turn(state, utterance, "", 0.0, {}))
    final = np.full(len(whole), turns, np.int32) if rewritten else whole
    return Episode(tuple(played), End.TERMINATED, final, seed=0, task="", policy_version=0)
