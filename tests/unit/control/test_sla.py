"""The service level of a month."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from merino.control.accounts import AccountDesk
from merino.control.overview import CallSums, SumBy
from merino.control.sla import SlaDesk, level_of
from merino.control.usage import Cut, UsageRow
from merino.domain.errors import Conflict, InvalidCall, NotFound
from merino.settings.sections.sla import SlaCreditSettings, SlaSettings
from merino.storage import Store

RULES = SlaSettings(
    enabled=True,
    objective=0.995,
    calls_min=10,
    credits=(
        SlaCreditSettings(below=0.995, share=0.1),
        SlaCreditSettings(below=0.99, share=0.25),
        SlaCreditSettings(below=0.95, share=1.0),
    ),
)
NOV, DEC_MS = "2026-11", 1_796_083_200_000


def sums(calls: int, failed: int, refused: int = 0, charged: int = 1_000_000_000) -> CallSums:
    return CallSums("", calls=calls, failed=failed, refused=refused, charged_nanos=charged)


@pytest.mark.parametrize(
    ("calls", "failed", "refused", "due"),
    [
        (1000, 0, 0, 0),
        (1000, 5, 0, 0),  # just kept
        (1000, 6, 0, 100_000_000),
        (1000, 11, 0, 250_000_000),
        (1000, 51, 0, 1_000_000_000),
        (1000, 1000, 0, 1_000_000_000),
        (9, 9, 0, 0),  # too few to say anything
        (1009, 9, 1000, 0),  # what callers made wrong does not count
        (2000, 6, 1000, 100_000_000),
    ],
)
def test_what_a_month_gives_back(calls, failed, refused, due):
    """The lowest step above what was reached decides; the caller's own mistakes count neither way."""
    assert due == level_of("a", NOV, sums(calls, failed, refused), RULES).due_nanos


def test_without_steps_a_missed_month_gives_nothing_back():
    """What is given back is a rule that the operator has written, or nothing."""
    assert 0 == level_of("a", NOV, sums(1000, 500), SlaSettings(enabled=True)).due_nanos


class Usage:
    def __init__(self, found: CallSums) -> None:
        self.found = found
        self.account_id = ""

    async def usage(
        self,
        by: Sequence[SumBy],
        since_ms: int,
        until_ms: int,
        cut: Cut,
        slot_ms: int | None = None,
        only: Sequence[str] = (),
    ) -> list[UsageRow]:
        return [UsageRow(0, (self.account_id,) if by else (), "USD", self.found)]


@pytest.fixture
def desk(tmp_path):
    runner = asyncio.Runner()
    store = Store.open(tmp_path)
    accounts = AccountDesk(store.accounts)
    usage = Usage(sums(1000, 20))
    usage.account_id = runner.run(accounts.create("ada")).account.id
    desk = SlaDesk(usage, accounts, lambda: DEC_MS)
    desk.configure(RULES)
    yield runner, desk, store
    runner.run(store.close())
    runner.close()


def test_a_month_is_given_back_once(desk):
    """An operator confirms a month once for each account, also if several do at once."""
    runner, sla, store = desk

    async def thrice():
        wanted = [sla.confirm("ada", NOV) for _ in range(3)]
        return await asyncio.gather(*wanted, return_exceptions=True)

    found = runner.run(thrice())
    assert 2 == sum(isinstance(each, Conflict) for each in found), found
    [account] = store.accounts.list()
    assert 250_000_000 == store.accounts.balance(account.id).posted_nanos
    with pytest.raises(Conflict):
        runner.run(sla.confirm("ada", NOV))
    [level] = runner.run(sla.month(NOV))
    assert (250_000_000, 250_000_000) == (level.due_nanos, level.credited_nanos)


def test_only_a_month_that_has_ended_and_was_missed(desk):
    """Nothing is given back before the end, for a kept month, or for what is no month."""
    runner, sla, _ = desk
    with pytest.raises(Conflict):
        runner.run(sla.confirm("ada", "2026-12"))
    sla._usage.found = sums(1000, 0)
    with pytest.raises(NotFound):
        runner.run(sla.confirm("ada", NOV))
    with pytest.raises(InvalidCall):
        runner.run(sla.month("2026-13"))
