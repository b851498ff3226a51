"""Who changed what: every change of keys, accounts, money and deployments leaves a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from merino.control.ports import Page

DETAILS_MAX = 2000
_HIDDEN = frozenset(("secret", "password", "code", "key", "token", "email"))
"""What is secret, and who somebody is: whoever is deleted must be nowhere."""


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

    async def lines(
        self, *, limit: int, cursor: str | None = None, text: str = ""
    ) -> Page[AuditLine]:
        """The newest first; only those that have `text` somewhere."""
        ...


class NoLog:
    """Where no relay runs: who can open the folder owns it, and its log."""

    async def note(self, actor: str, action: str, target: str, details: str = "") -> None:
        pass

    async def lines(
        self, *, limit: int, cursor: str | None = None, text: str = ""
    ) -> Page[AuditLine]:
        return Page(())


def told(details: Sequence[tuple[str, object]]) -> str:
    """Details of a change, without what is secret in them."""
    shown = ", ".join(
        f"{name}={'[hidden]' if name.lower() in _HIDDEN else _worded(value)}"
        for name, value in details
    )
    return shown[:DETAILS_MAX]


def _worded(value: object) -> str:
    """As people write it: no brackets, quotes or words of a programming language."""
    if value is None or value in ("", (), []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " + ".join(_worded(each) for each in cast("Sequence[object]", value))
    return str(value)
