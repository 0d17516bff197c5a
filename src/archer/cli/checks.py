"""What several commands refuse."""

from __future__ import annotations


def check_episodes(count: int) -> None:
    """Refuse fewer games than one."""
    if count < 1:
        raise ValueError(f"--episodes must be at least 1, got {count}")


def check_best_of(count: int) -> None:
    """Refuse to choose among fewer than no utterances."""
    if count < 0:
        raise ValueError(f"--best-of must not be negative, got {count}")
