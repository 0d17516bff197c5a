"""All layouts by name."""

from __future__ import annotations

from functools import partial

from archer.config import RolloutConfig
from archer.rollout.chat import Chat
from archer.rollout.prompts import LayoutMaker, Minutes, PlainText, Transcript

LAYOUTS: dict[str, type[PlainText] | type[Chat]] = {
    "plain": PlainText,
    "transcript": Transcript,
    "minutes": Minutes,
    "chat": Chat,
}


def layout_of(rollout: RolloutConfig) -> LayoutMaker:
    """The layout that a run's settings name."""
    return partial(LAYOUTS[rollout.layout], system=rollout.system)
