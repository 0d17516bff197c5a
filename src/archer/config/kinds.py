"""Kinds of numbers that settings are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

# Strict, so that `true` is not taken for 1.
Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Several = Annotated[int, Field(ge=2, strict=True)]
Rate = Annotated[float, Field(gt=0, lt=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Weight = Annotated[float, Field(ge=0, strict=True)]
Norm = Annotated[float, Field(gt=0, strict=True)]
