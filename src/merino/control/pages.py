"""Pages of lists that are small enough to be in memory: the cursor is the last item's id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from merino.control.ports import Page
from merino.domain.errors import InvalidCall


class Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


def page_of(items: Sequence[T], *, limit: int, cursor: str | None) -> Page[T]:
    """Raises `InvalidCall` when the cursor is none that an earlier page gave."""
    start = 0
    if cursor is not None:
        for index, item in enumerate(items):
            if item.id == cursor:
                start = index + 1
                break
        else:
            raise InvalidCall(
                "cursor is not one that an earlier page gave; leave it out to start anew",
                param="cursor",
                code="invalid_cursor",
            )
    shown = items[start : start + limit]
    more = start + limit < len(items)
    return Page(shown, shown[-1].id if more else None)
