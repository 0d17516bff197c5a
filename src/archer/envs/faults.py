"""What goes wrong with environments: each failure has a kind."""

from __future__ import annotations

from typing import Literal

from archer.envs.base import ContractError

Kind = Literal["exception", "contract", "timeout", "died", "lost", "too_long"]
"""It raised; returned something else than it should; did not answer in time; its process ended; its process was ended
through another environment's fault; or what it says first leaves no room for an utterance."""


class Fault(RuntimeError):
    """An environment failed; the message says how, ``kind`` in one word."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def fault_of(error: Exception) -> Fault:
    """Whatever a call of an environment raised, as a fault."""
    if isinstance(error, Fault):
        return error
    kind: Kind = "contract" if isinstance(error, ContractError) else "exception"
    return Fault(kind, f"{type(error).__name__}: {error}")
