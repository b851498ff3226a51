"""Accounts: open, change, credit, debit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.accounts import AccountState
from merino.control.ports import AccountTerms, Once
from merino.control.terms import nanos_of
from merino.domain.account import ACCOUNT_CURRENCIES, SpendPeriod
from merino.domain.account import Account as DomainAccount
from merino.domain.account import Balance as DomainBalance
from merino.domain.ledger import Entry as LedgerEntry
from merino.domain.limits import Limits
from merino.operations.entries import Entry
from merino.operations.fields import (
    Amount,
    Group,
    In,
    LimitsChange,
    Memo,
    Name,
    NewLimits,
    PageQuery,
    PositiveAmount,
    Weight,
    page_of,
)
from merino.operations.shape import shown, shows, taken
from merino.operations.table import Asked, Operations

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


class NewOwnLimits(NewLimits, kw_only=True):
    weight: Weight | None = None


class NewAccount(NewOwnLimits):
    name: Name
    overdraft: Amount = "0"
    currency: AccountCurrency = "USD"
    group: Group = "standard"


class OwnLimitsChange(LimitsChange, kw_only=True):
    weight: Weight | UnsetType | None = UNSET


class AccountChange(OwnLimitsChange):
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


class Movement(In):
    amount: PositiveAmount
    memo: Memo | None = None


@shows(DomainBalance)
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


@shows(Limits)
class LimitsInForce(Struct):
    """The account's own limits and, where it has none, those of the settings."""

    rps: int | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    weight: float


@shows(DomainAccount, hidden={"overdraft_nanos": "a part of the balance"})
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


def _shown(state: AccountState) -> Account:
    limit = state.limit
    return shown(
        Account,
        state.account,
        balance=shown(Balance, state.balance),
        limits_in_force=shown(LimitsInForce, limit.limits, weight=limit.weight),
    )


OPERATIONS = Operations()


@OPERATIONS.get("/accounts", "List accounts")
async def list_accounts(asked: Asked, query: PageQuery) -> Accounts:
    page = asked.control.accounts.list(**page_of(query))
    return Accounts([_shown(each) for each in page.items], page.next_cursor)


@OPERATIONS.post("/accounts", "Open an account", status=201)
async def create_account(asked: Asked, body: NewAccount) -> Account:
    terms = taken(AccountTerms, body)
    return _shown(
        await asked.control.accounts.create(
            body.name,
            overdraft_nanos=nanos_of(body.overdraft, "overdraft"),
            currency=body.currency,
            group=body.group,
            terms=terms,
        )
    )


@OPERATIONS.get("/accounts/{account}", "Show one")
async def show_account(asked: Asked) -> Account:
    return _shown(asked.control.accounts.show(asked.path["account"]))


@OPERATIONS.at(
    "PATCH",
    "/accounts/{account}",
    "Rename an account, change its overdraft, caps and limits, disable or enable it",
)
async def update_account(asked: Asked, body: AccountChange) -> Account:
    terms = taken(AccountTerms, body)
    return _shown(await asked.control.accounts.update(asked.path["account"], terms))


def moved_by(asked: Asked, entries: Sequence[LedgerEntry]) -> Moved:
    """Found by the entry, since an account may have another name by the time of a repeat."""
    [entry] = entries
    account = asked.control.accounts.show(entry.account_id)
    return Moved(shown(Entry, entry), _shown(account))


@OPERATIONS.post("/accounts/{account}/credit", "Put money into an account", again=moved_by)
async def credit_account(asked: Asked, body: Movement) -> Moved:
    return await _moved(asked, body, asked.control.accounts.credit)


@OPERATIONS.post("/accounts/{account}/debit", "Take money out of an account", again=moved_by)
async def debit_account(asked: Asked, body: Movement) -> Moved:
    return await _moved(asked, body, asked.control.accounts.debit)


Move = Callable[[str, int, str | None, Once | None], Awaitable[LedgerEntry]]


async def _moved(asked: Asked, body: Movement, move: Move) -> Moved:
    nanos = nanos_of(body.amount, "amount")
    return moved_by(asked, [await move(asked.path["account"], nanos, body.memo, asked.once)])
