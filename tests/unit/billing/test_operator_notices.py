"""What operators are told of upstreams: what only they can mend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from merino.billing.notices import OPERATORS, NoticeDesk
from merino.billing.senders.mail import subject, text

pytestmark = pytest.mark.anyio

NOON_MS = 1_795_608_000_000


class Refused(NamedTuple):
    deployment: str
    status: int
    since_ms: int
    kind: str = "credential"
    said: str = "no"


class Accounts:
    """None: operators' notices are about no account."""

    def list(self):
        return []


class Notices:
    """The store's rule: an occasion is told once."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, dict]] = {}

    async def add(self, occasion, account_id, kind, body):
        is_new = occasion not in self.kept
        self.kept.setdefault(occasion, (account_id, json.loads(body)))
        return is_new


NOBODY: Any = None
"""Operators' notices ask no account's desk for anything."""


def desk(notices: Any, refused: Sequence[Any], **more: Any) -> NoticeDesk:
    accounts: Any = Accounts()
    return NoticeDesk(accounts, NOBODY, notices, NOBODY, lambda: refused, lambda: NOON_MS, **more)


async def test_one_opening_is_one_notice() -> None:
    """However often it is looked at, and by whichever desk: a reload makes a new one."""
    notices, refused = Notices(), [Refused("a", 401, NOON_MS), Refused("b", 401, NOON_MS)]
    first = desk(notices, refused)
    assert [2, 0] == [await first.look(), await first.look()]
    assert 0 == await desk(notices, refused).look()
    for account_id, body in notices.kept.values():
        assert (OPERATORS, "deployment.credential_refused") == (account_id, body["kind"])


async def test_a_deployment_is_told_of_once_an_hour_at_most() -> None:
    """One whose breaker opens and closes all the time fills no mailbox, and is not forgotten."""
    notices = Notices()
    refused: list[Refused] = []
    told = desk(notices, refused)
    made = 0
    for minute in range(0, 180, 5):
        refused[:] = [Refused("a", 403, NOON_MS + minute * 60_000)]
        made += await told.look()
    assert 3 == made


@pytest.mark.parametrize(
    ("kind", "status", "told", "way_out"),
    [
        ("credential", 401, "credential_refused", "another one"),
        ("credential", 403, "credential_refused", "allow it"),
        ("credit", 429, "credit_exhausted", "pay there"),
        ("gone", 404, "gone", "correct upstream_model"),
        ("denied", 403, "denied", "does not say why"),
    ],
)
async def test_the_way_out_is_told(kind, status, told, way_out) -> None:
    """A wrong key, an unpaid bill, a missing permission and a retired model are mended in different
    ways."""
    notices = Notices()
    await desk(notices, [Refused("a", status, NOON_MS, kind)]).look()
    [(_, body)] = notices.kept.values()
    assert way_out in body["advice"]
    assert (f"deployment.{told}", "no") == (body["kind"], body["said"])
    assert ("?" in subject(body), "?" in text(body)) == (False, False)
    assert ("a", status, "2026-11-25T12:00:00.000Z") == (
        body["deployment"],
        body["status"],
        body["since"],
    )


class Odd(NamedTuple):
    deployment: str
    oddity: str
    count: int
    last_ms: int
    call_id: str = "req_1"
    said: str = '{"output_tokens": 4000000}'


async def test_odd_usage_is_told_once_a_day() -> None:
    """Each deployment and kind is one notice a day, with what was said and what to do."""
    notices, odd = (
        Notices(),
        [Odd("a", "impossible", 1, NOON_MS), Odd("a", "zero_charge", 1, NOON_MS)],
    )
    told = desk(notices, (), odd=lambda: list(odd))
    assert [2, 0] == [await told.look(), await told.look()]
    odd[:] = [Odd("a", "impossible", 9, NOON_MS + 86_400_000)]
    assert [1, 0] == [await told.look(), await told.look()]
    for account_id, body in notices.kept.values():
        assert (OPERATORS, "deployment.usage_odd") == (account_id, body["kind"])
        assert body["advice"]
        assert "4000000" in body["said"]
