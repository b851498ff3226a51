"""Who pays: open accounts, move money to and from them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from merino.control.names import check_free, check_name, find
from merino.control.pages import page_of
from merino.control.ports import Accounts, AccountTerms, Once, Page
from merino.control.terms import check_limits
from merino.domain.account import (
    ACCOUNT_CURRENCIES,
    STANDARD_GROUP,
    Account,
    AccountLimit,
    Balance,
)
from merino.domain.errors import Conflict, InvalidCall
from merino.domain.ledger import Entry
from merino.domain.money import AMOUNT_NANOS_MAX, format_nanos

MEMO_LENGTH_MAX = 500
MAIL_LENGTH_MAX = 254
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\Z")


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account, what it has at this moment, and the limits that hold for it: its own and the
    settings'."""

    account: Account
    balance: Balance
    limit: AccountLimit


def own_limit(account: Account) -> AccountLimit:
    """What holds where there are no settings."""
    return AccountLimit(account.limits, 1.0 if account.weight is None else account.weight)


class AccountDesk:
    """Use cases around accounts. An account is named by its id or its name.

    Whoever changes an account, or puts money into one, does it in `turn`: nobody else does between
    the look and the change. Calls go on meanwhile."""

    def __init__(self, accounts: Accounts) -> None:
        self.turn = asyncio.Lock()
        self._accounts = accounts
        self._limit_of: Callable[[Account], AccountLimit] = own_limit

    def configure(self, limit_of: Callable[[Account], AccountLimit]) -> None:
        """What limits hold for an account, besides its own."""
        self._limit_of = limit_of

    def find(self, reference: str) -> Account:
        return find("account", reference, self._accounts.list())

    def show(self, reference: str) -> AccountState:
        return self._state(self.find(reference))

    def all(self) -> Sequence[Account]:
        """The oldest first."""
        return self._accounts.list()

    def list(self, *, limit: int, cursor: str | None = None) -> Page[AccountState]:
        page = page_of(self._accounts.list(), limit=limit, cursor=cursor)
        return Page([self._state(account) for account in page.items], page.next_cursor)

    async def create(
        self,
        name: str,
        *,
        overdraft_nanos: int = 0,
        currency: str = "USD",
        group: str = STANDARD_GROUP,
        terms: AccountTerms | None = None,
    ) -> AccountState:
        """`terms` are further ones, as for `update`."""
        check_name(name)
        check_name(group, "group")
        async with self.turn:
            check_free("account", name, self._accounts.list())
            check_limits(terms or {})
            if currency not in ACCOUNT_CURRENCIES:
                raise InvalidCall(
                    f"currency {currency[:20]!r} is not possible; an account is kept in "
                    f"{', '.join(ACCOUNT_CURRENCIES)}",
                    param="currency",
                    code="unknown_currency",
                )
            made = await self._accounts.create(
                name,
                overdraft_nanos=overdraft_nanos,
                currency=currency,
                group=group,
                terms=terms or {},
            )
        return self._state(made)

    async def update(self, reference: str, terms: AccountTerms) -> AccountState:
        account = self.find(reference)
        check_limits(terms)
        async with self.turn:
            if "name" in terms:
                check_name(terms["name"])
                check_free("account", terms["name"], self._accounts.list(), own_id=account.id)
            if "group" in terms:
                check_name(terms["group"], "group")
            email = terms.get("notice_email")
            if email is not None and not is_mail_address(email):
                raise InvalidCall(
                    f"notice_email {email[:100]!r} is not a mail address such as ada@example.org",
                    param="notice_email",
                    code="invalid_email",
                )
            if terms.get("topup_nanos") == 0:
                raise InvalidCall(
                    "topup_amount must be more than zero; null takes the rule away",
                    param="topup_amount",
                    code="invalid_amount",
                )
            if terms:
                account = await self._accounts.update(account.id, terms)
        return self._state(account)

    async def credit(
        self, reference: str, nanos: int, memo: str | None = None, once: Once | None = None
    ) -> Entry:
        account = self.find(reference)
        check_movement(nanos, memo)
        async with self.turn:
            self.check_room(account, nanos)
            return await self._accounts.credit(account.id, nanos, memo, once)

    async def debit(
        self, reference: str, nanos: int, memo: str | None = None, once: Once | None = None
    ) -> Entry:
        """Take money out; never what running calls hold, and never below the overdraft."""
        account = self.find(reference)
        check_movement(nanos, memo)
        self.check_available(account, nanos, "debit")
        return await self._accounts.debit(account.id, nanos, memo, once)

    async def booked_before(self, once: Once) -> Sequence[Entry] | None:
        """The entries of a movement that was asked for before, to be asked before it is booked.
        Raises `Conflict` with code `idempotency_key_reused` if something else was asked for."""
        booked = await self._accounts.booked(once.idempotency_key)
        if booked is None:
            return None
        request_hash, entries = booked
        if request_hash != once.request_hash:
            raise Conflict(
                f"This Idempotency-Key was used for something else, which made entry "
                f"{entries[0].id}. Use a new key for a new movement.",
                code="idempotency_key_reused",
                param="Idempotency-Key",
            )
        return entries

    def check_room(self, account: Account, nanos: int) -> None:
        """Raises `Conflict` if the account would hold more than can be counted."""
        if self._accounts.balance(account.id).posted_nanos + nanos >= AMOUNT_NANOS_MAX:
            raise Conflict(
                f"account {account.name!r} would hold more than "
                f"{format_nanos(AMOUNT_NANOS_MAX)}; credit less",
                param="amount",
                code="balance_too_large",
            )

    def check_available(self, account: Account, nanos: int, what: str) -> None:
        """Raises `Conflict` if running calls and the overdraft leave less. It is still so when the
        money is taken, as long as nothing is awaited between."""
        available = self._accounts.balance(account.id).available_nanos
        if nanos > available:
            raise Conflict(
                f"account {account.name!r} has {format_nanos(available)} available; asked to "
                f"{what} {format_nanos(nanos)}. {what.capitalize()} less, or raise its overdraft",
                param="amount",
                code="insufficient_funds",
            )

    def _state(self, account: Account) -> AccountState:
        return AccountState(account, self._accounts.balance(account.id), self._limit_of(account))


def check_movement(nanos: int, memo: str | None) -> None:
    if nanos <= 0:
        raise InvalidCall("amount must be more than zero", param="amount", code="invalid_amount")
    if memo is not None and (len(memo) > MEMO_LENGTH_MAX or "\0" in memo):
        raise InvalidCall(
            f"memo must be at most {MEMO_LENGTH_MAX} characters, none of them NUL",
            param="memo",
            code="invalid_memo",
        )


def is_mail_address(text: str) -> bool:
    """Whether it is one plain address that can stand in a letter's head."""
    return len(text) <= MAIL_LENGTH_MAX and _MAIL.match(text) is not None
