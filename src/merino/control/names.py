"""What accounts and keys may be called, and how they are found by name or id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

from merino.domain.errors import Conflict, InvalidCall, NotFound

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._@:+-]{0,99}$"
"""No slash, since names stand in paths; no leading sign, since `@` marks the ledger's own accounts.
"""
_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")


class Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def check_name(name: str, param: str = "name") -> None:
    if not _NAME.match(name):
        raise InvalidCall(
            f"{param} {_short(name)} is not usable; use up to 100 letters, digits, spaces and "
            ". _ @ : + -, a letter or digit first",
            param=param,
            code="invalid_name",
        )


def check_free(kind: str, name: str, existing: Iterable[Named], *, own_id: str = "") -> None:
    """Names are unique, and none is another's id: either may be given where one is asked for."""
    for item in existing:
        if item.id != own_id and name in (item.name, item.id):
            raise Conflict(
                f"{kind} {_short(name)} exists already; choose another name",
                param="name",
                code="name_taken",
            )


def find(kind: str, reference: str, existing: Iterable[T]) -> T:
    """By id or name. Raises `NotFound`."""
    by_name: T | None = None
    for item in existing:
        if item.id == reference:
            return item
        if item.name == reference:
            by_name = item
    if by_name is None:
        raise NotFound(
            f"There is no {kind} {_short(reference)}; list the {kind}s to see their names and ids"
        )
    return by_name


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")
