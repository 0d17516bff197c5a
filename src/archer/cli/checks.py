"""What several commands refuse."""

from __future__ import annotations


def at_least_one(flag: str, count: int) -> None:
    """Refuse fewer than one."""
    if count < 1:
        raise ValueError(f"{flag} must be at least 1, got {count}")


def not_negative(flag: str, count: int) -> None:
    """Refuse fewer than none."""
    if count < 0:
        raise ValueError(f"{flag} must not be negative, got {count}")
