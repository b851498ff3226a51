"""The admin API's operations around credit: vouchers, transfers, exchange rates, spending,
statements, top-ups and notices; and their JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.api import admin_shapes as shapes
from merino.api.admin_shapes import (
    Amount,
    Cursor,
    In,
    Memo,
    PageLimit,
    PositiveAmount,
    Reference,
    Time,
)
from merino.api.operation import Asked, Operation
from merino.api.statement_files import statement_csv, statement_html
from merino.control.money import Money
from merino.control.ports import Checkout
from merino.domain.credits import CURRENCY_DECIMALS, Notice, TopUp, Voucher
from merino.domain.errors import Conflict, InvalidCall
from merino.domain.money import NANOS_PER_UNIT, format_nanos

Currency = Annotated[
    str,
    Meta(
        description=f"One of {', '.join(CURRENCY_DECIMALS)}.",
        extra_json_schema={"enum": list(CURRENCY_DECIMALS)},
    ),
]
Month = Annotated[
    str,
    Meta(
        description="Such as 2026-11, in UTC.",
        extra_json_schema={"pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])$"},
    ),
]
Day = Annotated[
    str,
    Meta(
        description="Such as 2026-11-24, in UTC.",
        extra_json_schema={"pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$"},
    ),
]
Rate = Annotated[
    str,
    Meta(
        description='How much of the quote one of the base is: decimal text such as "7.12".',
        extra_json_schema={"pattern": r"^[1-9][0-9]{0,4}(\.[0-9]{1,6})?$"},
    ),
]
Batch = Annotated[str, Meta(extra_json_schema={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"})]
Short = Annotated[str, Meta(extra_json_schema={"maxLength": 100, "pattern": r"^[!-~ ]*$"})]

# -- what comes in --------------------------------------------------------------------------------


class NewVouchers(In):
    value: PositiveAmount
    count: Annotated[int, Meta(ge=1, le=10_000)] = 1
    currency: Currency = "USD"
    expires_at: Time | None = None
    batch: Batch | None = None
    memo: Memo | None = None


class Redemption(In):
    code: Annotated[str, Meta(extra_json_schema={"maxLength": 100})]
    account: Reference


class VouchersQuery(In):
    batch: str | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class NewTransfer(In):
    source: Reference
    target: Reference
    amount: PositiveAmount
    memo: Memo | None = None


class NewRate(In):
    base: Currency
    quote: Currency
    rate: Rate
    valid_from: Day | None = None
    source: Short = "an operator"


class NewRates(In):
    rates: Annotated[list[NewRate], Meta(min_length=1, max_length=500)]


class StatementQuery(In):
    month: Month | UnsetType = UNSET
    format: Literal["html", "csv"] = "html"


class NewTopUp(In):
    account: Reference
    amount: PositiveAmount
    provider: Short | None = None
    currency: Currency | None = None
    memo: Memo | None = None


class TopUpsQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100


class Confirmation(In):
    """`amount` and `currency` are what really came, so that they can be compared with the order."""

    amount: PositiveAmount
    currency: Currency
    reference: Short = ""


class NewRefund(In):
    amount: Amount | None = None


class NoticesQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100


# -- what goes out --------------------------------------------------------------------------------


class VoucherShape(Struct):
    """`hint` is how the code begins; the code itself is not kept."""

    id: str
    hint: str
    batch: str
    currency: str
    value: str
    value_nanos: int
    state: str
    created_at: str
    expires_at: str | None
    redeemed_at: str | None
    account_id: str | None
    memo: str | None


class IssuedVoucher(VoucherShape, kw_only=True):
    """A voucher with its code, which is shown this once."""

    code: str


class IssuedVouchers(Struct):
    data: list[IssuedVoucher]


class Vouchers(Struct):
    data: list[VoucherShape]
    next_cursor: str | None


class Transferred(Struct):
    left: shapes.Entry
    came: shapes.Entry


class RateShape(Struct):
    base: str
    quote: str
    rate: str
    valid_from: str
    source: str


class Rates(Struct):
    data: list[RateShape]


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


class TopUpShape(Struct):
    id: str
    account_id: str
    provider: str
    status: str
    amount: str
    amount_nanos: int
    currency: str
    charge: str
    charge_minor: int
    charge_currency: str
    exchange: str | None
    url: str | None
    created_at: str
    paid_at: str | None
    taken_back: str
    taken_back_nanos: int
    automatic: bool
    memo: str | None


class OrderedTopUp(TopUpShape, kw_only=True):
    """`instructions` are for people, where there is no page to pay at."""

    instructions: str | None


class TopUps(Struct):
    data: list[TopUpShape]


class NoticeShape(Struct):
    id: str
    account_id: str
    kind: str
    created_at: str
    body: str
    attempts: int
    delivered_at: str | None
    last_error: str | None


class Notices(Struct):
    data: list[NoticeShape]


# -- what each operation does ---------------------------------------------------------------------


def _money(asked: Asked) -> Money:
    money = asked.control.money
    assert money is not None, "these operations are offered with it only"
    return money


async def _create_vouchers(asked: Asked) -> IssuedVouchers:
    body: NewVouchers = asked.body
    made = _money(asked).credits.create_vouchers(
        shapes.nanos_of(body.value, "value"),
        body.count,
        currency=body.currency,
        expires_at_ms=shapes.ms_of(body.expires_at, "expires_at"),
        batch=body.batch,
        memo=body.memo,
    )
    now_ms = made[0][0].created_at_ms
    return IssuedVouchers(
        [IssuedVoucher(**_voucher_fields(each, now_ms), code=code) for each, code in made]
    )


async def _list_vouchers(asked: Asked) -> Vouchers:
    query: VouchersQuery = asked.query
    page = await _money(asked).credits.list_vouchers(
        shapes.given(query.batch), limit=query.limit, cursor=shapes.given(query.cursor)
    )
    return Vouchers([_voucher(each) for each in page.items], page.next_cursor)


async def _void_voucher(asked: Asked) -> VoucherShape:
    return _voucher(_money(asked).credits.void_voucher(asked.path["voucher"]))


async def _redeem(asked: Asked) -> shapes.Moved:
    body: Redemption = asked.body
    entry = _money(asked).credits.redeem(body.code, body.account)
    account = asked.control.accounts.show(body.account)
    return shapes.Moved(shapes.entry_shape(entry), shapes.account_shape(account))


async def _transfer(asked: Asked) -> Transferred:
    body: NewTransfer = asked.body
    left, came = _money(asked).credits.transfer(
        body.source, body.target, shapes.nanos_of(body.amount, "amount"), body.memo
    )
    return Transferred(shapes.entry_shape(left), shapes.entry_shape(came))


async def _list_rates(asked: Asked) -> Rates:
    return _rates(asked)


async def _set_rates(asked: Asked) -> Rates:
    from merino.control.credits import parse_rate

    body: NewRates = asked.body
    today = datetime.now(UTC).date()
    _money(asked).credits.set_rates(
        [
            parse_rate(
                each.base, each.quote, each.rate, _day_of(each.valid_from) or today, each.source
            )
            for each in body.rates
        ]
    )
    return _rates(asked)


async def _spending(asked: Asked) -> SpendingShape:
    account = asked.control.accounts.find(asked.path["account"])
    found = await _money(asked).credits.spending(account.id)
    return SpendingShape(
        account_id=account.id,
        period=found.period,
        spent=format_nanos(found.spent_nanos),
        spent_nanos=found.spent_nanos,
        cap=_amount(found.cap_nanos),
        cap_nanos=found.cap_nanos,
        forecast=_amount(found.forecast_nanos),
        forecast_nanos=found.forecast_nanos,
        reaches_cap_on=None if found.reaches_cap_on is None else found.reaches_cap_on.isoformat(),
    )


async def _statement(asked: Asked) -> AsyncIterator[bytes]:
    query: StatementQuery = asked.query
    made = await _money(asked).statements.make(asked.path["account"], shapes.given(query.month))
    text = statement_html(made) if query.format == "html" else statement_csv(made)

    async def pieces() -> AsyncIterator[bytes]:
        yield text.encode()

    return pieces()


async def _create_topup(asked: Asked) -> OrderedTopUp:
    body: NewTopUp = asked.body
    order, checkout = await _money(asked).topups.create(
        body.account,
        shapes.nanos_of(body.amount, "amount"),
        provider=body.provider,
        currency=body.currency,
        memo=body.memo,
    )
    return _ordered(order, checkout)


async def _list_topups(asked: Asked) -> TopUps:
    query: TopUpsQuery = asked.query
    found = _money(asked).topups.list(shapes.given(query.account), limit=query.limit)
    return TopUps([TopUpShape(**_topup_fields(each)) for each in found])


async def _show_topup(asked: Asked) -> TopUpShape:
    return TopUpShape(**_topup_fields(_money(asked).topups.get(asked.path["topup"])))


async def _confirm_topup(asked: Asked) -> TopUpShape:
    body: Confirmation = asked.body
    nanos = shapes.nanos_of(body.amount, "amount")
    if body.currency not in CURRENCY_DECIMALS:
        raise InvalidCall("currency is not known", param="currency", code="unknown_currency")
    unit = NANOS_PER_UNIT // 10 ** CURRENCY_DECIMALS[body.currency]
    if nanos % unit:
        raise Conflict(
            "amount has more decimals than the currency", param="amount", code="invalid_amount"
        )
    order = _money(asked).topups.confirm(
        asked.path["topup"], nanos // unit, body.currency, body.reference
    )
    return TopUpShape(**_topup_fields(order))


async def _refund_topup(asked: Asked) -> TopUpShape:
    body: NewRefund = asked.body
    nanos = None if body.amount is None else shapes.nanos_of(body.amount, "amount")
    order = await _money(asked).topups.refund(asked.path["topup"], nanos)
    return TopUpShape(**_topup_fields(order))


async def _list_notices(asked: Asked) -> Notices:
    query: NoticesQuery = asked.query
    found = _money(asked).notices.list(shapes.given(query.account), limit=query.limit)
    return Notices([_notice(each) for each in found])


# -- to JSON --------------------------------------------------------------------------------------


def _amount(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)


def _iso(ms: int | None) -> str | None:
    return None if ms is None else shapes.iso(ms)


def _day_of(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidCall(
            "valid_from must be a day such as 2026-11-24", param="valid_from", code="invalid_day"
        ) from None


def _voucher(voucher: Voucher) -> VoucherShape:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return VoucherShape(**_voucher_fields(voucher, now_ms))


def _voucher_fields(voucher: Voucher, now_ms: int) -> dict[str, Any]:
    expires = voucher.expires_at_ms
    state = "usable"
    if voucher.redeemed_at_ms is not None:
        state = "redeemed"
    elif voucher.is_void:
        state = "void"
    elif expires is not None and expires <= now_ms:
        state = "expired"
    return {
        "id": voucher.id,
        "hint": voucher.hint,
        "batch": voucher.batch,
        "currency": voucher.currency,
        "value": format_nanos(voucher.value_nanos),
        "value_nanos": voucher.value_nanos,
        "state": state,
        "created_at": shapes.iso(voucher.created_at_ms),
        "expires_at": _iso(expires),
        "redeemed_at": _iso(voucher.redeemed_at_ms),
        "account_id": voucher.account_id,
        "memo": voucher.memo,
    }


def _rates(asked: Asked) -> Rates:
    return Rates(
        [
            RateShape(
                each.base,
                each.quote,
                format_nanos(each.rate_micros * 1000),
                each.valid_from.isoformat(),
                each.source,
            )
            for each in _money(asked).credits.list_rates()
        ]
    )


def _ordered(order: TopUp, checkout: Checkout) -> OrderedTopUp:
    return OrderedTopUp(**_topup_fields(order), instructions=checkout.instructions or None)


def _topup_fields(order: TopUp) -> dict[str, Any]:
    decimals = CURRENCY_DECIMALS[order.charge_currency]
    charge_nanos = order.charge_minor * NANOS_PER_UNIT // 10**decimals
    return {
        "id": order.id,
        "account_id": order.account_id,
        "provider": order.provider,
        "status": order.status,
        "amount": format_nanos(order.amount_nanos),
        "amount_nanos": order.amount_nanos,
        "currency": order.currency,
        "charge": format_nanos(charge_nanos),
        "charge_minor": order.charge_minor,
        "charge_currency": order.charge_currency,
        "exchange": order.exchange,
        "url": order.url,
        "created_at": shapes.iso(order.created_at_ms),
        "paid_at": _iso(order.paid_at_ms),
        "taken_back": format_nanos(order.taken_back_nanos),
        "taken_back_nanos": order.taken_back_nanos,
        "automatic": order.is_automatic,
        "memo": order.memo,
    }


def _notice(notice: Notice) -> NoticeShape:
    return NoticeShape(
        notice.id,
        notice.account_id,
        notice.kind,
        shapes.iso(notice.created_at_ms),
        notice.body,
        notice.attempts,
        _iso(notice.delivered_at_ms),
        notice.last_error,
    )


CREDIT_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/vouchers",
        "create_vouchers",
        "Create vouchers; their codes are in this answer and nowhere else",
        _create_vouchers,
        IssuedVouchers,
        body=NewVouchers,
        status=201,
    ),
    Operation(
        "GET",
        "/vouchers",
        "list_vouchers",
        "List vouchers",
        _list_vouchers,
        Vouchers,
        query=VouchersQuery,
    ),
    Operation(
        "POST",
        "/vouchers/redeem",
        "redeem_voucher",
        "Credit an account with a voucher, once",
        _redeem,
        shapes.Moved,
        body=Redemption,
    ),
    Operation(
        "POST",
        "/vouchers/{voucher}/void",
        "void_voucher",
        "Withdraw a voucher",
        _void_voucher,
        VoucherShape,
    ),
    Operation(
        "POST",
        "/transfers",
        "transfer",
        "Move money from account to account",
        _transfer,
        Transferred,
        body=NewTransfer,
    ),
    Operation(
        "GET", "/exchange-rates", "list_exchange_rates", "List exchange rates", _list_rates, Rates
    ),
    Operation(
        "POST",
        "/exchange-rates",
        "set_exchange_rates",
        "Set exchange rates from a day on",
        _set_rates,
        Rates,
        body=NewRates,
    ),
    Operation(
        "GET",
        "/accounts/{account}/spending",
        "account_spending",
        "What an account spends in its period, and will have spent at its end",
        _spending,
        SpendingShape,
    ),
    Operation(
        "GET",
        "/accounts/{account}/statement",
        "account_statement",
        "An account's statement of a month, from its entries",
        _statement,
        None,
        query=StatementQuery,
        filename="merino-statement",
    ),
    Operation(
        "POST",
        "/topups",
        "create_topup",
        "Order credit, to be paid through a payment provider",
        _create_topup,
        OrderedTopUp,
        body=NewTopUp,
        status=201,
    ),
    Operation(
        "GET",
        "/topups",
        "list_topups",
        "List top-ups, the newest first",
        _list_topups,
        TopUps,
        query=TopUpsQuery,
    ),
    Operation("GET", "/topups/{topup}", "show_topup", "Show one", _show_topup, TopUpShape),
    Operation(
        "POST",
        "/topups/{topup}/confirm",
        "confirm_topup",
        "Say that the money of an invoice has come",
        _confirm_topup,
        TopUpShape,
        body=Confirmation,
    ),
    Operation(
        "POST",
        "/topups/{topup}/refund",
        "refund_topup",
        "Give a top-up back, all that is left of it or a part",
        _refund_topup,
        TopUpShape,
        body=NewRefund,
    ),
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
