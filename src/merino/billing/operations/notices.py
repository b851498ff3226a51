"""Notices: what owners and operators were told."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from merino.billing.nouns import Delivery, Notice
from merino.billing.operations.asked import billing
from merino.operations.fields import In, PageLimit, Reference, given
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations


class NoticesQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100


@shows(Delivery)
class DeliveryShape(Struct):
    """How far a notice has come by webhook or by mail."""

    channel: str
    attempts: int
    delivered_at: str | None
    last_error: str | None


@shows(Notice, hidden={"occasion": "keeps it from being told twice"})
class NoticeShape(Struct):
    id: str
    account_id: str | None
    kind: str
    created_at: str
    body: str
    deliveries: list[DeliveryShape]


class Notices(Struct):
    data: list[NoticeShape]


OPERATIONS = Operations()


@OPERATIONS.get("/notices", "List notices, the newest first")
async def list_notices(asked: Asked, query: NoticesQuery) -> Notices:
    found = await billing(asked).notices.list(given(query.account), limit=query.limit)
    # Those to operators are about no account.
    return Notices([shown(NoticeShape, each, account_id=each.account_id or None) for each in found])
