"""Vouchers in the admin API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.terms import nanos_of
from merino.domain.credits import Voucher
from merino.domain.money import format_nanos
from merino.operations.accounts import Moved, moved_by
from merino.operations.fields import (
    Currency,
    Cursor,
    In,
    Memo,
    PageLimit,
    PositiveAmount,
    Reference,
    Time,
    given,
    iso,
    iso_or_none,
    ms_of,
)
from merino.operations.table import Asked, Operation, money_of

Batch = Annotated[str, Meta(extra_json_schema={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"})]


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


async def _create_vouchers(asked: Asked) -> IssuedVouchers:
    body: NewVouchers = asked.body
    made = money_of(asked).credits.create_vouchers(
        nanos_of(body.value, "value"),
        body.count,
        currency=body.currency,
        expires_at_ms=ms_of(body.expires_at, "expires_at"),
        batch=body.batch,
        memo=body.memo,
    )
    now_ms = made[0][0].created_at_ms
    return IssuedVouchers(
        [IssuedVoucher(**_voucher_fields(each, now_ms), code=code) for each, code in made]
    )


async def _list_vouchers(asked: Asked) -> Vouchers:
    query: VouchersQuery = asked.query
    page = await money_of(asked).credits.list_vouchers(
        given(query.batch), limit=query.limit, cursor=given(query.cursor)
    )
    return Vouchers([_voucher(each) for each in page.items], page.next_cursor)


async def _void_voucher(asked: Asked) -> VoucherShape:
    return _voucher(money_of(asked).credits.void_voucher(asked.path["voucher"]))


async def _redeem(asked: Asked) -> Moved:
    body: Redemption = asked.body
    entry = money_of(asked).credits.redeem(body.code, body.account, asked.once)
    return moved_by(asked, [entry])


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
        "created_at": iso(voucher.created_at_ms),
        "expires_at": iso_or_none(expires),
        "redeemed_at": iso_or_none(voucher.redeemed_at_ms),
        "account_id": voucher.account_id,
        "memo": voucher.memo,
    }


VOUCHER_OPERATIONS: tuple[Operation, ...] = (
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
        Moved,
        body=Redemption,
        again=moved_by,
    ),
    Operation(
        "POST",
        "/vouchers/{voucher}/void",
        "void_voucher",
        "Withdraw a voucher",
        _void_voucher,
        VoucherShape,
    ),
)
