"""What an account spends: up to now, and as a statement of a month."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.billing.nouns import Spending
from merino.billing.operations.asked import billing
from merino.operations.fields import In, given
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations

Month = Annotated[
    str,
    Meta(
        description="Such as 2026-11, in UTC.",
        extra_json_schema={"pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])$"},
    ),
]


class StatementQuery(In):
    month: Month | UnsetType = UNSET
    format: Literal["html", "csv", "json"] = "html"


@shows(Spending, hidden={"since_day": "the period says it"})
class SpendingShape(Struct):
    """`forecast` is for the period's end, if it goes on as on the last days."""

    account_id: str
    period: str
    spent: str
    spent_nanos: int
    cap: str | None
    cap_nanos: int | None
    forecast: str | None
    forecast_nanos: int | None
    reaches_cap_on: str | None


OPERATIONS = Operations()


@OPERATIONS.get(
    "/accounts/{account}/spending",
    "What an account spends in its period, and will have spent at its end",
)
async def account_spending(asked: Asked) -> SpendingShape:
    account = asked.control.accounts.find(asked.path["account"])
    spending = await billing(asked).credits.spending(account.id)
    return shown(SpendingShape, spending, account_id=account.id)


@OPERATIONS.get(
    "/accounts/{account}/statement",
    "An account's statement of a month, from its entries",
    filename="merino-statement",
)
async def account_statement(asked: Asked, query: StatementQuery) -> AsyncIterator[bytes]:
    from merino.billing.operations.statement_files import statement_file

    made = await billing(asked).statements.make(asked.path["account"], given(query.month))

    async def pieces() -> AsyncIterator[bytes]:
        # It may have very many lines, and its template is compiled the first time.
        yield (await asyncio.to_thread(statement_file, made, query.format)).encode()

    return pieces()
