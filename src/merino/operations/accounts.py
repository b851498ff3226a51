"""Accounts in the admin API: open, change, credit, debit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.accounts import AccountState
from merino.control.ports import AccountTerms, Once
from merino.control.terms import nanos_of
from merino.domain.account import ACCOUNT_CURRENCIES, SpendPeriod
from merino.domain.ledger import Entry as LedgerEntry
from merino.domain.money import format_nanos
from merino.operations.entries import Entry, entry_shape
from merino.operations.fields import (
    Amount,
    Group,
    In,
    Limit,
    Memo,
    Name,
    PageQuery,
    PositiveAmount,
    Weight,
    amount_or_none,
    cap_of,
    given,
    iso,
)
from merino.operations.table import Asked, Operation

AccountCurrency = Annotated[
    str,
    Meta(
        description="What its balance is in.",
        extra_json_schema={"enum": list(ACCOUNT_CURRENCIES)},
    ),
]


Email = Annotated[
    str,
    Meta(
        description="Where notices are mailed, such as ada@example.org.",
        extra_json_schema={"pattern": r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[a-z]{2,9})?$"},
    ),
]


class NewAccount(In):
    name: Name
    overdraft: Amount = "0"
    currency: AccountCurrency = "USD"
    group: Group = "standard"
    rps: Limit | None = None
    rpm: Limit | None = None
    tpm: Limit | None = None
    concurrency: Limit | None = None
    weight: Weight | None = None


class AccountChange(In):
    """What is left out stays as it is; `null` takes a cap, rule or limit away."""

    name: Name | UnsetType = UNSET
    overdraft: Amount | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    group: Group | UnsetType = UNSET
    spend_cap: Amount | UnsetType | None = UNSET
    spend_period: SpendPeriod | UnsetType = UNSET
    notice_below: Amount | UnsetType | None = UNSET
    topup_below: Amount | UnsetType | None = UNSET
    topup_amount: PositiveAmount | UnsetType | None = UNSET
    notice_email: Email | UnsetType | None = UNSET
    rps: Limit | UnsetType | None = UNSET
    rpm: Limit | UnsetType | None = UNSET
    tpm: Limit | UnsetType | None = UNSET
    concurrency: Limit | UnsetType | None = UNSET
    weight: Weight | UnsetType | None = UNSET


class Movement(In):
    amount: PositiveAmount
    memo: Memo | None = None


class Balance(Struct):
    """`available` is posted less held plus overdraft: what a new hold may take."""

    posted: str
    posted_nanos: int
    held: str
    held_nanos: int
    overdraft: str
    overdraft_nanos: int
    available: str
    available_nanos: int


class LimitsInForce(Struct):
    """The account's own limits and, where it has none, those of the settings."""

    rps: int | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    weight: float


class Account(Struct):
    """`rps` to `weight` are its own; `limits_in_force` says what holds."""

    id: str
    name: str
    currency: str
    disabled: bool
    created_at: str
    balance: Balance
    group: str
    spend_cap: str | None
    spend_cap_nanos: int | None
    spend_period: str
    notice_below: str | None
    topup_below: str | None
    topup_amount: str | None
    notice_email: str | None
    rps: int | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    weight: float | None
    limits_in_force: LimitsInForce


class Accounts(Struct):
    data: list[Account]
    next_cursor: str | None


class Moved(Struct):
    """The entry that was written, and the account after it."""

    entry: Entry
    account: Account


def account_shape(state: AccountState) -> Account:
    account, balance, rates = state.account, state.balance, state.limit.rates
    return Account(
        id=account.id,
        name=account.name,
        currency=account.currency,
        disabled=account.disabled,
        created_at=iso(account.created_at_ms),
        balance=Balance(
            posted=format_nanos(balance.posted_nanos),
            posted_nanos=balance.posted_nanos,
            held=format_nanos(balance.held_nanos),
            held_nanos=balance.held_nanos,
            overdraft=format_nanos(balance.overdraft_nanos),
            overdraft_nanos=balance.overdraft_nanos,
            available=format_nanos(balance.available_nanos),
            available_nanos=balance.available_nanos,
        ),
        group=account.group,
        spend_cap=amount_or_none(account.spend_cap_nanos),
        spend_cap_nanos=account.spend_cap_nanos,
        spend_period=account.spend_period,
        notice_below=amount_or_none(account.notice_below_nanos),
        topup_below=amount_or_none(account.topup_below_nanos),
        topup_amount=amount_or_none(account.topup_nanos),
        notice_email=account.notice_email,
        rps=account.rps,
        rpm=account.rpm,
        tpm=account.tpm,
        concurrency=account.concurrency,
        weight=account.weight,
        limits_in_force=LimitsInForce(
            rps=rates.rps,
            rpm=rates.rpm,
            tpm=rates.tpm,
            concurrency=rates.concurrency,
            weight=state.limit.weight,
        ),
    )


async def _list_accounts(asked: Asked) -> Accounts:
    page = asked.control.accounts.list(limit=asked.query.limit, cursor=given(asked.query.cursor))
    return Accounts([account_shape(each) for each in page.items], page.next_cursor)


async def _create_account(asked: Asked) -> Account:
    body: NewAccount = asked.body
    overdraft_nanos = nanos_of(body.overdraft, "overdraft")
    return account_shape(
        asked.control.accounts.create(
            body.name,
            overdraft_nanos=overdraft_nanos,
            currency=body.currency,
            group=body.group,
            terms=_limits(body),
        )
    )


async def _show_account(asked: Asked) -> Account:
    return account_shape(asked.control.accounts.show(asked.path["account"]))


async def _update_account(asked: Asked) -> Account:
    body: AccountChange = asked.body
    terms: AccountTerms = _limits(body)
    if body.name is not UNSET:
        terms["name"] = body.name
    if body.overdraft is not UNSET:
        terms["overdraft_nanos"] = nanos_of(body.overdraft, "overdraft")
    if body.disabled is not UNSET:
        terms["disabled"] = body.disabled
    if body.group is not UNSET:
        terms["group"] = body.group
    if body.spend_cap is not UNSET:
        terms["spend_cap_nanos"] = cap_of(body.spend_cap)
    if body.spend_period is not UNSET:
        terms["spend_period"] = body.spend_period
    if body.notice_below is not UNSET:
        terms["notice_below_nanos"] = _threshold(body.notice_below, "notice_below")
    if body.topup_below is not UNSET:
        terms["topup_below_nanos"] = _threshold(body.topup_below, "topup_below")
    if body.topup_amount is not UNSET:
        terms["topup_nanos"] = _threshold(body.topup_amount, "topup_amount")
    if body.notice_email is not UNSET:
        terms["notice_email"] = body.notice_email
    return account_shape(asked.control.accounts.update(asked.path["account"], terms))


_LIMITS: tuple[Literal["rps", "rpm", "tpm", "concurrency", "weight"], ...] = (
    "rps",
    "rpm",
    "tpm",
    "concurrency",
    "weight",
)


def _limits(body: NewAccount | AccountChange) -> AccountTerms:
    terms: AccountTerms = {}
    for name in _LIMITS:
        value = getattr(body, name)
        if value is not UNSET:
            terms[name] = value
    return terms


def _threshold(amount: str | float | None, field: str) -> int | None:
    return None if amount is None else nanos_of(amount, field)


async def _credit(asked: Asked) -> Moved:
    return _moved(asked, asked.control.accounts.credit)


async def _debit(asked: Asked) -> Moved:
    return _moved(asked, asked.control.accounts.debit)


def _moved(asked: Asked, move: Callable[[str, int, str | None, Once | None], LedgerEntry]) -> Moved:
    body: Movement = asked.body
    entry = move(asked.path["account"], nanos_of(body.amount, "amount"), body.memo, asked.once)
    return moved_by(asked, [entry])


def moved_by(asked: Asked, entries: Sequence[LedgerEntry]) -> Moved:
    """Found by the entry, since an account may have another name by the time of a repeat."""
    [entry] = entries
    account = asked.control.accounts.show(entry.account_id)
    return Moved(entry_shape(entry), account_shape(account))


ACCOUNT_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/accounts",
        "list_accounts",
        "List accounts",
        _list_accounts,
        Accounts,
        query=PageQuery,
    ),
    Operation(
        "POST",
        "/accounts",
        "create_account",
        "Open an account",
        _create_account,
        Account,
        body=NewAccount,
        status=201,
    ),
    Operation("GET", "/accounts/{account}", "show_account", "Show one", _show_account, Account),
    Operation(
        "PATCH",
        "/accounts/{account}",
        "update_account",
        "Rename an account, change its overdraft, caps and limits, disable or enable it",
        _update_account,
        Account,
        body=AccountChange,
    ),
    Operation(
        "POST",
        "/accounts/{account}/credit",
        "credit_account",
        "Put money into an account",
        _credit,
        Moved,
        body=Movement,
        again=moved_by,
    ),
    Operation(
        "POST",
        "/accounts/{account}/debit",
        "debit_account",
        "Take money out of an account",
        _debit,
        Moved,
        body=Movement,
        again=moved_by,
    ),
)
