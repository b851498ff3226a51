"""One line of the admin API, and a request for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from merino.api.admin.fields import NoQuery
from merino.control import Control
from merino.control.money import Money


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, decoded. `path` holds the path's fields, `query` and `body` the declared types."""

    control: Control
    path: dict[str, str]
    query: Any
    body: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` of `None` is a file that is streamed, under `filename`."""

    method: str
    path: str
    name: str
    summary: str
    run: Callable[[Asked], Awaitable[Any]]
    answer: type[Struct] | None
    query: type[Struct] = NoQuery
    body: type[Struct] | None = None
    status: int = 200
    filename: str = "merino-ledger"


def money_of(asked: Asked) -> Money:
    money = asked.control.money
    assert money is not None, "these operations are offered with it only"
    return money
