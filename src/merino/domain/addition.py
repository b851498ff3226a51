"""A deployment or an alias that was added to a relay's folder, beside those of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

AdditionKind = Literal["deployment", "alias"]
Place = tuple[AdditionKind, str]
"""Which one: its kind and its name."""


@dataclass(frozen=True, slots=True)
class Addition:
    """`terms` are what a settings file would say of it, by the same names. A secret stands there
    as a reference only."""

    kind: AdditionKind
    name: str
    terms: Mapping[str, Any]
    at_ms: int = 0

    @property
    def place(self) -> Place:
        return self.kind, self.name
