"""The table's lines, operations, and what happens with every one that is asked for: repeats are
answered from what the first one booked, and changes leave a line in the audit log.

An operation is a function under a decorator. Its name is the function's; `body` or `query`, if it
takes one, is decoded to the type that is written there; its answer is what it says it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from msgspec import UNSET, Struct
from msgspec.structs import asdict

from merino.control.audit import told
from merino.control.ports import Once
from merino.domain.ledger import Entry
from merino.operations.fields import NoQuery

if TYPE_CHECKING:
    from merino.control.control import Control


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, decoded. `path` holds the path's fields, `query` and `body` the declared types;
    `once` is there if it came with an idempotency key."""

    control: Control
    path: dict[str, str]
    query: Any = None
    body: Any = None
    once: Once | None = None


Again = Callable[[Asked, Sequence[Entry]], Struct]
Act = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` of `None` is a file that is streamed, under `filename`. `again` makes an operation
    take an `Idempotency-Key`: it answers a repeat, from the entries that the first one booked.
    """

    method: str
    path: str
    name: str
    summary: str
    act: Act
    answer: type[Struct] | None
    query: type[Struct] = NoQuery
    body: type[Struct] | None = None
    status: int = 200
    filename: str = "merino-ledger"
    again: Again | None = None

    async def run(self, asked: Asked) -> Any:
        if self.body is not None:
            return await self.act(asked, asked.body)
        return await (self.act(asked) if self.query is NoQuery else self.act(asked, asked.query))


class Operations(list[Operation]):
    """Those of one noun, in the order they are described in."""

    def at(self, method: str, path: str, summary: str, **more: Any) -> Callable[[Act], Operation]:
        """Makes an operation of a function: `Operation` says what `more` may be."""

        def declared(act: Act) -> Operation:
            types = get_type_hints(act)
            answer = types["return"]
            operation = Operation(
                method,
                path,
                act.__name__,
                summary,
                act,
                answer if isinstance(answer, type) and issubclass(answer, Struct) else None,
                query=types.get("query", NoQuery),
                body=types.get("body"),
                **more,
            )
            self.append(operation)
            return operation

        return declared

    def get(self, path: str, summary: str, **more: Any) -> Callable[[Act], Operation]:
        return self.at("GET", path, summary, **more)

    def post(self, path: str, summary: str, **more: Any) -> Callable[[Act], Operation]:
        return self.at("POST", path, summary, **more)


async def perform(operation: Operation, asked: Asked, actor: str) -> tuple[Any, bool]:
    """The answer, and whether it is that of a repeat."""
    if operation.method == "GET":
        return await operation.run(asked), False
    # A change that has begun comes to its end with its line in the log, whoever waits for it.
    return await asyncio.shield(_change(operation, asked, actor))


async def _change(operation: Operation, asked: Asked, actor: str) -> tuple[Any, bool]:
    if asked.once is None or operation.again is None:
        return await _noted(operation, asked, actor), False
    async with asked.control.repeats.turn(asked.once.idempotency_key):
        first = await asked.control.accounts.booked_before(asked.once)
        if first is not None:
            return operation.again(asked, first), True
        return await _noted(operation, asked, actor), False


async def _noted(operation: Operation, asked: Asked, actor: str) -> Any:
    """The answer of an operation that is done, with a line in the audit log."""
    answer = await operation.run(asked)
    details = {} if asked.body is None else asdict(asked.body)
    given = [(name, value) for name, value in details.items() if value is not UNSET]
    target = "/".join(asked.path.values()) or details.get("name") or details.get("account")
    await asked.control.audit.note(actor, operation.name, target or "", told(given))
    return answer
