"""Histories: what of a conversation is put before the agent, where it grows, is told anew, or must be cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archer.rollout.prompts import Layout, Told
from archer.types import Observation

History = Callable[[Any, Layout[Any], Observation, int], Told]
"""(the conversation with its newest turn, layout, newest observation, most tokens) -> what the agent is to read."""


def append(told: Told, prompts: Layout[Any], observation: Observation, room: int) -> Told:
    """All of it; a conversation that has no room for one more utterance ends."""
    return told


def replace(told: Told, prompts: Layout[Any], observation: Observation, room: int) -> Told:
    """The newest observation alone, which tells everything anew (a page, a map)."""
    opened: Told = prompts.open(observation)
    return opened


def window(told: Told, prompts: Layout[Any], observation: Observation, room: int) -> Told:
    """All of it while it has room; then what opened it and the newest turns, as many as fill half of the room.

    Half, so that what is left need not be read anew in every turn. The newest turn stays, however long it is.
    """
    if len(told.ids) <= room:
        return told
    kept = told
    for turns in range(told.turns - 1, 0, -1):
        kept = prompts.newest(told, turns)
        if len(kept.ids) <= room // 2:
            break
    return kept


HISTORIES: dict[str, History] = {"append": append, "replace": replace, "window": window}
