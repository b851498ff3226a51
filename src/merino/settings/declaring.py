"""How a setting is declared: its default, one sentence of meaning, and the units of its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from merino.domain.money import parse_nanos

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Bytes = Annotated[int, Meta(ge=1, le=2**40)]
Tokens = Annotated[int, Meta(ge=1, le=2**31)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Share = Annotated[float, Meta(ge=0, le=1)]

Holds = Literal["at once", "at start"]
"""When a changed setting takes effect: at a reload, or when the relay is started again."""


def setting(
    default: T, doc: str, *, required: bool = False, secret: bool = False, holds: Holds = "at once"
) -> T:
    """A setting's default and meaning. The type told to the checker is the value's own."""
    metadata = {"doc": doc, "required": required, "secret": secret, "holds": holds}
    declared: Any = field(default=default, repr=not secret, metadata=metadata)
    return declared


def table(doc: str, *, secret: bool = False) -> Mapping[str, str]:
    """Texts under names of the operator's choice."""
    metadata = {"doc": doc, "secret": secret}
    declared: Any = field(default_factory=dict[str, str], repr=not secret, metadata=metadata)
    return declared


def amount(default: str, doc: str, *, key: str, holds: Holds = "at once") -> int:
    """An amount of money, `key` in the file, kept as integer nano-units."""
    metadata = {"doc": doc, "key": key, "amount": True, "holds": holds}
    declared: Any = field(default=parse_nanos(default), metadata=metadata)
    return declared


def optional_amount(doc: str, *, key: str) -> int | None:
    """An amount of money that may be left out."""
    declared: Any = field(default=None, metadata={"doc": doc, "key": key, "amount": True})
    return declared


def section(kind: type[T], doc: str) -> T:
    """A table of the file, with its own defaults."""
    declared: Any = field(default_factory=kind, metadata={"doc": doc})
    return declared


def optional_section(kind: type[T], doc: str) -> T | None:
    """A table of the file that may be left out."""
    declared: Any = field(default=None, metadata={"doc": doc, "section": kind})
    return declared


def sections(kind: type[T], doc: str) -> tuple[T, ...]:
    """An array of tables."""
    declared: Any = field(default=(), metadata={"doc": doc, "sections": kind})
    return declared


def named_sections(kind: type[T], doc: str) -> Mapping[str, T]:
    """Tables under names of the operator's choice."""
    declared: Any = field(
        default_factory=dict[str, T], metadata={"doc": doc, "named_sections": kind}
    )
    return declared
