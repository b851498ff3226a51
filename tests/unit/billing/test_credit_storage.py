"""Vouchers, transfers, statements and payment events over a real store."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from tests.unit.billing.test_payment_rules import ORDER
from tests.unit.ledger.folder_at_death import holding

from merino.billing.credits import CreditDesk, parse_rate
from merino.billing.nouns import PaymentEvent
from merino.billing.payment_rules import decide
from merino.billing.statements import StatementDesk
from merino.billing.stores.stores import BillingStores
from merino.control.accounts import AccountDesk
from merino.domain.errors import Conflict, InvalidCall, NotFound
from merino.domain.money import parse_nanos
from merino.storage import Store

NOW_MS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
DOLLAR = 10**9


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(tmp_path, clock):
    opened = Store.open(tmp_path / "data", now_ms=clock)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def desk(store, clock):
    accounts = AccountDesk(store.accounts)
    await accounts.create("a")
    await accounts.create("b")
    await accounts.create("yuan", currency="CNY")
    tables = BillingStores(store)
    return CreditDesk(
        accounts, tables.vouchers, tables.transfers, store.exchange, tables.statements, clock
    )


def balance(store, name: str) -> int:
    [account] = [each for each in store.accounts.list() if each.name == name]
    return store.accounts.balance(account.id).posted_nanos


async def differences(store) -> list:
    return list((await store.books.verify()).differences)


pytestmark = pytest.mark.anyio


async def test_vouchers_are_listed_as_they_were_made(store, desk):
    """Those of one moment, too, over pages of any size."""
    first = [voucher.id for voucher, _ in await desk.create_vouchers(DOLLAR, 20, batch="first")]
    second = [voucher.id for voucher, _ in await desk.create_vouchers(DOLLAR, 3, batch="second")]
    seen: list[str] = []
    cursor = None
    while not seen or cursor is not None:
        page = await desk.list_vouchers(None, limit=7, cursor=cursor)
        seen += [each.id for each in page.items]
        cursor = page.next_cursor
    assert {*first, *second} == {*seen}
    assert (first, second) == (
        [each for each in seen if each in first],
        [each for each in seen if each in second],
    )


async def test_a_voucher_credits_once(store, desk):
    """The second use is refused and books nothing."""
    [(voucher, code)] = await desk.create_vouchers(10 * DOLLAR, 1, memo="spring")
    entry = await desk.redeem(code, "a")
    assert ("voucher", 10 * DOLLAR, voucher.id) == (
        entry.kind,
        entry.amount_nanos,
        entry.reference,
    )
    with pytest.raises(Conflict, match="used already"):
        await desk.redeem(code, "b")
    assert (10 * DOLLAR, 0) == (balance(store, "a"), balance(store, "b"))
    assert [] == await differences(store)


async def test_a_code_is_read_as_people_type_it(store, desk):
    """Lower case, no dashes, spaces, O for 0 and I or L for 1."""
    [(_, code)] = await desk.create_vouchers(DOLLAR, 1)
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    await desk.redeem(typed, "a")
    assert DOLLAR == balance(store, "a")


async def test_the_conditional_update_decides(store, desk):
    """Also where a check before it saw a usable voucher: the row changes once."""
    [(voucher, _)] = await desk.create_vouchers(DOLLAR, 1)
    account = store.accounts.list()[0]
    outcomes = [
        await BillingStores(store).vouchers.redeem(voucher, account, DOLLAR, None)
        for _ in range(100)
    ]
    assert 1 == len([each for each in outcomes if each is not None])
    assert DOLLAR == balance(store, "a")
    assert [] == await differences(store)


async def test_expired_withdrawn_and_unknown_vouchers(store, desk, clock):
    """Each has its own clear refusal, and books nothing."""
    [(_, code)] = await desk.create_vouchers(DOLLAR, 1, expires_at_ms=NOW_MS + 1000)
    clock.ms += 1000
    with pytest.raises(Conflict, match="expired on 2026-11-24 12:00 UTC"):
        await desk.redeem(code, "a")
    [(voucher, code)] = await desk.create_vouchers(DOLLAR, 1)
    await desk.void_voucher(voucher.id)
    with pytest.raises(Conflict, match="withdrawn"):
        await desk.redeem(code, "a")
    with pytest.raises(NotFound, match="no voucher with this code"):
        await desk.redeem("MV-0000-0000-0000-0000-0000", "a")
    assert 0 == balance(store, "a")


async def test_a_used_voucher_is_not_withdrawn(desk):
    """What was credited is debited, not made undone."""
    [(voucher, code)] = await desk.create_vouchers(DOLLAR, 1)
    await desk.redeem(code, "a")
    with pytest.raises(Conflict, match="debit the account"):
        await desk.void_voucher(voucher.id)


@pytest.mark.parametrize(
    ("value", "count", "more"),
    [
        (0, 1, {}),
        (-1, 1, {}),
        (DOLLAR, 0, {}),
        (DOLLAR, 10_001, {}),
        (DOLLAR, 1, {"currency": "XXX"}),
        (DOLLAR, 1, {"batch": "no/slash"}),
    ],
)
async def test_impossible_vouchers(desk, value, count, more):
    """Nothing is created for a value, count, currency or batch that cannot be."""
    with pytest.raises(InvalidCall):
        await desk.create_vouchers(value, count, **more)
    assert [] == list((await desk.list_vouchers(limit=10)).items)


async def test_codes_are_kept_as_hashes_only(store, desk, tmp_path):
    """Nobody who reads the database can redeem."""
    [(_, code)] = await desk.create_vouchers(DOLLAR, 1)
    await store.ledger.settled_down()
    raw = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("merino.db*"))
    assert code.encode() not in raw
    assert code.replace("-", "").encode() not in raw


async def test_a_voucher_in_another_currency(store, desk):
    """It is credited at the rate of the day, and the entry has the rate."""
    [(_, code)] = await desk.create_vouchers(10 * DOLLAR, 1)
    with pytest.raises(Conflict, match="no exchange rate from USD to CNY"):
        await desk.redeem(code, "yuan")
    await desk.set_rate("USD", "CNY", "7.12", date(2026, 11, 1), "test")
    entry = await desk.redeem(code, "yuan")
    assert parse_nanos("71.2") == balance(store, "yuan")
    assert "USD/CNY=7.12@2026-11-01" == entry.exchange
    assert "@vouchers:CNY" == entry.debit_account


async def test_transfers_move_money_and_keep_it(store, desk):
    """What leaves one account comes to the other; the clearing account is zero afterwards."""
    await store.accounts.credit(store.accounts.list()[0].id, 10 * DOLLAR)
    left, came = await desk.transfer("a", "b", 4 * DOLLAR, "lunch")
    assert left.reference == came.reference
    assert (6 * DOLLAR, 4 * DOLLAR) == (balance(store, "a"), balance(store, "b"))
    assert [] == await differences(store)


@pytest.mark.parametrize(
    ("source", "target", "nanos", "told"),
    [
        ("a", "b", 11 * DOLLAR, "available"),
        ("a", "a", DOLLAR, "itself"),
        ("a", "b", 0, "more than zero"),
        ("a", "b", -DOLLAR, "more than zero"),
        ("a", "nobody", DOLLAR, "no account"),
        ("a", "yuan", DOLLAR, "no exchange rate"),
    ],
)
async def test_transfers_that_cannot_be(store, desk, source, target, nanos, told):
    """A clear error, and nothing is booked."""
    await store.accounts.credit(store.accounts.list()[0].id, 10 * DOLLAR)
    with pytest.raises((Conflict, InvalidCall, NotFound), match=told):
        await desk.transfer(source, target, nanos)
    assert 10 * DOLLAR == balance(store, "a")
    assert [] == await differences(store)


@pytest.mark.parametrize(
    "rate",
    [
        "0",
        "-1",
        "NaN",
        "inf",
        "1.0000001",
        "x",
        "1e20",
        "1e999999",
        "1e-999999",
        "1.0000000000000000000000000000000001",
    ],
)
async def test_impossible_rates(rate):
    """A rate is positive, finite, and has at most six decimals."""
    with pytest.raises(InvalidCall, match="rate"):
        parse_rate("USD", "CNY", rate, date(2026, 1, 1), "test")


async def test_a_statement_is_the_ledger(store, desk, clock):
    """Opening, movements and closing are what the entries say, month by month, to the balance."""
    account = store.accounts.list()[0]
    clock.ms = int(datetime(2026, 10, 30, tzinfo=UTC).timestamp() * 1000)
    await store.accounts.credit(account.id, 10 * DOLLAR, "october")
    clock.ms = NOW_MS
    await store.accounts.debit(account.id, 3 * DOLLAR, "november")
    await desk.transfer("a", "b", 2 * DOLLAR)
    made = await StatementDesk(
        AccountDesk(store.accounts), BillingStores(store).statements, clock
    ).make("a")
    assert (10 * DOLLAR, 5 * DOLLAR) == (made.opening_nanos, made.closing_nanos)
    assert ["debit", "transfer"] == [entry.kind for entry in made.movements]
    assert balance(store, "a") == made.closing_nanos
    october = await StatementDesk(
        AccountDesk(store.accounts), BillingStores(store).statements, clock
    ).make("a", "2026-10")
    assert (0, 10 * DOLLAR) == (october.opening_nanos, october.closing_nanos)


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "november", "1999-01"])
async def test_impossible_months(store, desk, clock, month):
    """A statement is of a month."""
    with pytest.raises(InvalidCall, match="month"):
        await StatementDesk(
            AccountDesk(store.accounts), BillingStores(store).statements, clock
        ).make("a", month)


async def test_account_caps_survive_a_restart(store, clock, tmp_path):
    """The cap is kept with the account and enforced again after opening the folder."""
    account = (
        store.accounts.list()[0] if store.accounts.list() else await store.accounts.create("c")
    )
    await store.accounts.update(account.id, {"spend_cap_nanos": DOLLAR, "spend_period": "day"})
    await store.close()
    again = Store.open(tmp_path / "data", now_ms=clock)
    try:
        assert DOLLAR == again.accounts.get(account.id).spend_cap_nanos
        assert 0 == again.ledger.spent(account.id, "day")
    finally:
        await again.close()
        await store.start()


async def test_a_voucher_that_is_worth_nothing_there(store, desk):
    """A clear refusal, and the voucher stays usable elsewhere."""
    [(_, code)] = await desk.create_vouchers(1, 1)
    await desk.set_rate("USD", "CNY", "0.1", date(2026, 11, 1), "test")
    with pytest.raises(Conflict, match="worth nothing in CNY"):
        await desk.redeem(code, "yuan")
    assert 1 == (await desk.redeem(code, "a")).amount_nanos


async def test_a_call_that_was_all_overrun_is_a_call(store, desk):
    """A statement counts calls, also one whose hold had expired before it was settled."""
    from merino.domain.call import CallRecord
    from merino.domain.ledger import Hold

    account = store.accounts.list()[0]
    await store.accounts.credit(account.id, DOLLAR)
    key, _ = await store.keys.create(account_id=account.id, name="k")
    for number, held in enumerate((0, 100)):
        hold = Hold(f"c{number}", account.id, key.id, held, NOW_MS, 60)
        await holding(store, hold, key)
        record = CallRecord(
            id=f"c{number}",
            account_id=account.id,
            key_id=key.id,
            alias="m",
            endpoint="chat",
            at_ms=NOW_MS,
            status=200,
            charged_nanos=150,
            price_id="p",
        )
        await store.ledger.settle(hold, key, record)
    today_ms = NOW_MS // DAY_MS * DAY_MS
    made = await BillingStores(store).statements.lines(account.id, today_ms, today_ms + DAY_MS)
    assert [(2, 300)] == [(line.calls, line.nanos) for line in made.usage]


async def test_foreign_events_are_not_looked_at_again(store, desk):
    """A refund of somebody else's payment waits for ever, and costs later payments nothing: only
    what waits for the payment at hand is looked at again."""
    for number in range(3):
        event = PaymentEvent(
            f"evt_{number}", "refund", payment_ref=f"pi_{number}", amount_minor=1, ref="re"
        )
        await BillingStores(store).topups.receive("stripe", event.id, b"{}")
        assert (
            "waiting"
            == (await BillingStores(store).topups.apply("stripe", event, decide))[1].outcome
        )
    assert [] == list(await BillingStores(store).topups.open_events(10))
    assert [b"{}"] == list(await BillingStores(store).topups.waiting_events("stripe", "pi_1"))


# -- what events do to orders ---------------------------------------------------------------------


async def test_an_event_is_kept_before_it_is_booked(store, desk):
    """Received twice, it is kept once; applied twice, it books once."""
    from dataclasses import replace

    account = store.accounts.list()[0]
    order = replace(ORDER, account_id=account.id, status="open")
    await BillingStores(store).topups.create(order)
    event = PaymentEvent(
        "evt_1",
        "paid",
        topup_id="top_1",
        amount_minor=1000,
        currency="USD",
        checkout_ref="cs_1",
        account_id=account.id,
    )
    assert [True, False] == [
        await BillingStores(store).topups.receive("stripe", "evt_1", b"{}") for _ in range(2)
    ]
    assert [("stripe", b"{}")] == list(await BillingStores(store).topups.open_events(10))
    outcomes = [
        (await BillingStores(store).topups.apply("stripe", event, decide))[1].outcome
        for _ in range(100)
    ]
    assert ["applied"] + ["ignored"] * 99 == outcomes
    assert [] == list(await BillingStores(store).topups.open_events(10))
    assert 10 * DOLLAR == balance(store, "a")
