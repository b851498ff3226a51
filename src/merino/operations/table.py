"""One line of the admin API, and a request for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from merino.control.control import Control
from merino.control.money import Money
from merino.control.ports import Once
from merino.domain.ledger import Entry
from merino.operations.fields import NoQuery


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, decoded. `path` holds the path's fields, `query` and `body` the declared types;
    `once` is there if it came with an idempotency key."""

    control: Control
    path: dict[str, str]
    query: Any
    body: Any
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` of `None` is a file that is streamed, under `filename`. `again` makes an operation
    take an `Idempotency-Key`: it answers a repeat, from the entries that the first one booked.
    """

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
    again: Callable[[Asked, Sequence[Entry]], Struct] | None = None


def money_of(asked: Asked) -> Money:
    money = asked.control.money
    assert money is not None, "these operations are offered with it only"
    return money
