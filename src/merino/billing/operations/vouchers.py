"""Vouchers: codes that credit an account, once."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.billing.nouns import Voucher
from merino.billing.operations.asked import billing
from merino.control.terms import nanos_of
from merino.domain.clock import epoch_ms
from merino.operations.accounts import Moved, moved_by
from merino.operations.fields import (
    Currency,
    In,
    Memo,
    PageQuery,
    PositiveAmount,
    Reference,
    Time,
    given,
    ms_of,
    page_of,
)
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations

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


class VouchersQuery(PageQuery):
    batch: str | UnsetType = UNSET


@shows(Voucher, hidden={"is_void": "one of its states"})
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


V = TypeVar("V", bound=VoucherShape)


def _shown(kind: type[V], voucher: Voucher, now_ms: int | None = None, **more: Any) -> V:
    now_ms = epoch_ms() if now_ms is None else now_ms
    state = "usable"
    if voucher.redeemed_at_ms is not None:
        state = "redeemed"
    elif voucher.is_void:
        state = "void"
    elif voucher.expires_at_ms is not None and voucher.expires_at_ms <= now_ms:
        state = "expired"
    return shown(kind, voucher, state=state, **more)


OPERATIONS = Operations()


@OPERATIONS.post(
    "/vouchers", "Create vouchers; their codes are in this answer and nowhere else", status=201
)
async def create_vouchers(asked: Asked, body: NewVouchers) -> IssuedVouchers:
    made = await billing(asked).credits.create_vouchers(
        nanos_of(body.value, "value"),
        body.count,
        currency=body.currency,
        expires_at_ms=None if body.expires_at is None else ms_of(body.expires_at, "expires_at"),
        batch=body.batch,
        memo=body.memo,
    )
    return IssuedVouchers(
        [_shown(IssuedVoucher, each, each.created_at_ms, code=code) for each, code in made]
    )


@OPERATIONS.get("/vouchers", "List vouchers")
async def list_vouchers(asked: Asked, query: VouchersQuery) -> Vouchers:
    page = await billing(asked).credits.list_vouchers(given(query.batch), **page_of(query))
    return Vouchers([_shown(VoucherShape, each) for each in page.items], page.next_cursor)


@OPERATIONS.post("/vouchers/redeem", "Credit an account with a voucher, once", again=moved_by)
async def redeem_voucher(asked: Asked, body: Redemption) -> Moved:
    return moved_by(
        asked, [await billing(asked).credits.redeem(body.code, body.account, asked.once)]
    )


@OPERATIONS.post("/vouchers/{voucher}/void", "Withdraw a voucher")
async def void_voucher(asked: Asked) -> VoucherShape:
    return _shown(VoucherShape, await billing(asked).credits.void_voucher(asked.path["voucher"]))
