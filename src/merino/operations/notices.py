"""Notices in the admin API."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from merino.domain.credits import Notice
from merino.operations.fields import In, PageLimit, Reference, given, iso, iso_or_none
from merino.operations.table import Asked, Operation, money_of


class NoticesQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100


class DeliveryShape(Struct):
    """How far a notice has come by webhook or by mail."""

    channel: str
    attempts: int
    delivered_at: str | None
    last_error: str | None


class NoticeShape(Struct):
    id: str
    account_id: str | None
    kind: str
    created_at: str
    body: str
    deliveries: list[DeliveryShape]


class Notices(Struct):
    data: list[NoticeShape]


async def _list_notices(asked: Asked) -> Notices:
    query: NoticesQuery = asked.query
    found = money_of(asked).notices.list(given(query.account), limit=query.limit)
    return Notices([_notice(each) for each in found])


def _notice(notice: Notice) -> NoticeShape:
    return NoticeShape(
        notice.id,
        notice.account_id or None,  # those to operators are about no account
        notice.kind,
        iso(notice.created_at_ms),
        notice.body,
        [
            DeliveryShape(
                each.channel, each.attempts, iso_or_none(each.delivered_at_ms), each.last_error
            )
            for each in notice.deliveries
        ],
    )


NOTICE_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/notices",
        "list_notices",
        "List notices, the newest first",
        _list_notices,
        Notices,
        query=NoticesQuery,
    ),
)
