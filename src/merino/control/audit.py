"""Who changed what: every change of keys, accounts, money and deployments leaves a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from merino.control.ports import Page

DETAILS_MAX = 2000
_HIDDEN = frozenset(("secret", "password", "code", "key", "token"))


@dataclass(frozen=True, slots=True)
class AuditLine:
    """`actor` is the admin key's name, `account NAME`, or `local` for the folder's own socket."""

    id: int
    at_ms: int
    actor: str
    action: str
    target: str
    details: str


class AuditLog(Protocol):
    """Lines are added, never changed or deleted."""

    async def note(self, actor: str, action: str, target: str, details: str = "") -> None: ...

    async def lines(self, *, limit: int, cursor: str | None = None) -> Page[AuditLine]: ...


def told(details: Sequence[tuple[str, object]]) -> str:
    """Details of a change, without what is secret in them."""
    shown = ", ".join(
        f"{name}={'[hidden]' if name.lower() in _HIDDEN else value}" for name, value in details
    )
    return shown[:DETAILS_MAX]
