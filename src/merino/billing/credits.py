"""Credit that comes without a payment, and goes without a call: vouchers and transfers; and how
much of its cap an account will spend."""

from __future__ import annotations

import hashlib
import re
import secrets
from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from merino.billing.nouns import Spending, Voucher
from merino.billing.ports import ExchangeRates, Statements, Transfers, Vouchers
from merino.control.accounts import AccountDesk, check_movement
from merino.control.ports import Once, Page
from merino.domain.account import Account, SpendPeriod
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.currencies import CURRENCY_DECIMALS, ExchangeRate
from merino.domain.errors import Conflict, InvalidCall, NotFound
from merino.domain.ledger import Entry
from merino.domain.money import AMOUNT_NANOS_MAX, format_nanos, scaled
from merino.pricing.margin import exchanged

VOUCHERS_MAX = 10_000
CODE_PREFIX = "MV"
FORECAST_DAYS = 7
"""Days whose average says how spending goes on."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 20
"""Of 32 characters each: 100 bits, so that codes need no slow hash and no counter of guesses."""
_LOOKALIKES = str.maketrans("OIL", "011")
_BATCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RATE_MICROS_MAX = 10**12


class CreditDesk:
    """Use cases around credit."""

    def __init__(
        self,
        accounts: AccountDesk,
        vouchers: Vouchers,
        transfers: Transfers,
        exchange: ExchangeRates,
        statements: Statements,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._accounts = accounts
        self._vouchers = vouchers
        self._transfers = transfers
        self._exchange = exchange
        self._statements = statements
        self._now_ms = now_ms

    # Vouchers

    async def create_vouchers(
        self,
        value_nanos: int,
        count: int,
        *,
        currency: str = "USD",
        expires_at_ms: int | None = None,
        batch: str | None = None,
        memo: str | None = None,
    ) -> list[tuple[Voucher, str]]:
        """New vouchers with their codes, which nobody can tell afterwards."""
        check_movement(value_nanos, memo)
        check_currency(currency)
        now_ms = self._now_ms()
        if not 1 <= count <= VOUCHERS_MAX:
            raise InvalidCall(
                f"count must be from 1 to {VOUCHERS_MAX}", param="count", code="invalid_count"
            )
        if expires_at_ms is not None and expires_at_ms <= now_ms:
            raise Conflict(
                "expires_at is in the past; give a later time, or leave it out",
                param="expires_at",
                code="invalid_time",
            )
        if batch is not None and not _BATCH.match(batch):
            raise InvalidCall(
                "batch must be up to 64 letters, digits and . _ -",
                param="batch",
                code="invalid_name",
            )
        batch = batch or f"b{secrets.token_hex(4)}"
        made: list[tuple[Voucher, str]] = []
        for number in range(count):
            code = _new_code()
            voucher = Voucher(
                # Of those of one moment, which are listed by id, the first is the first.
                id=f"vou_{now_ms:011x}{number:05x}{secrets.token_hex(4)}",
                hint=code[:7],
                batch=batch,
                currency=currency,
                value_nanos=value_nanos,
                created_at_ms=now_ms,
                expires_at_ms=expires_at_ms,
                memo=memo,
            )
            made.append((voucher, code))
        await self._vouchers.add((voucher, _hash(code)) for voucher, code in made)
        return made

    async def list_vouchers(
        self, batch: str | None = None, *, limit: int, cursor: str | None = None
    ) -> Page[Voucher]:
        return await self._vouchers.list(batch, limit=limit, cursor=cursor)

    async def void_voucher(self, voucher_id: str) -> Voucher:
        return await self._vouchers.void(voucher_id)

    async def redeem(self, code: str, account: str, once: Once | None = None) -> Entry:
        """Credit an account with a voucher, in its own currency. Raises `NotFound` for an unknown
        code, `Conflict` for one that is used up, voided or expired."""
        target = self._accounts.find(account)
        voucher = await self._vouchers.find(_hash(code))
        if voucher is None:
            raise NotFound("There is no voucher with this code", code="voucher_not_found")
        self._check_usable(voucher)
        nanos, exchange = self._in_currency(voucher.value_nanos, voucher.currency, target.currency)
        if not nanos:
            raise Conflict(
                f"voucher {voucher.hint}... is worth nothing in {target.currency}",
                code="voucher_worthless",
            )
        async with self._accounts.turn:
            self._accounts.check_room(target, nanos)
            entry = await self._vouchers.redeem(voucher, target, nanos, exchange, once)
        if entry is None:
            self._check_usable(await self._vouchers.get(voucher.id))
            raise Conflict(f"voucher {voucher.hint} cannot be used", code="voucher_redeemed")
        return entry

    def _check_usable(self, voucher: Voucher) -> None:
        if voucher.redeemed_at_ms is not None:
            raise Conflict(f"voucher {voucher.hint}... was used already", code="voucher_redeemed")
        if voucher.is_void:
            raise Conflict(f"voucher {voucher.hint}... was withdrawn", code="voucher_void")
        if voucher.expires_at_ms is not None and voucher.expires_at_ms <= self._now_ms():
            when = datetime.fromtimestamp(voucher.expires_at_ms / 1000, UTC)
            raise Conflict(
                f"voucher {voucher.hint}... expired on {when:%Y-%m-%d %H:%M} UTC",
                code="voucher_expired",
            )

    # Transfers

    async def transfer(
        self,
        source: str,
        target: str,
        nanos: int,
        memo: str | None = None,
        once: Once | None = None,
    ) -> tuple[Entry, Entry]:
        """Move `nanos` of the source's currency. Never what running calls hold, and never below the
        overdraft."""
        giver, taker = self._accounts.find(source), self._accounts.find(target)
        check_movement(nanos, memo)
        if giver.id == taker.id:
            raise InvalidCall(
                "an account cannot transfer to itself", param="target", code="invalid_target"
            )
        async with self._accounts.turn:
            self._accounts.check_available(giver, nanos, "transfer")
            target_nanos, exchange = self._in_currency(nanos, giver.currency, taker.currency)
            if not target_nanos:
                what = "amount is nothing in the other currency"
                raise InvalidCall(what, param="amount", code="invalid_amount")
            self._accounts.check_room(taker, target_nanos)
            return await self._transfers.transfer(
                giver, taker, nanos, target_nanos, exchange, memo, once
            )

    # Exchange rates

    def list_rates(self) -> list[ExchangeRate]:
        return list(self._exchange.list())

    async def set_rate(
        self, base: str, quote: str, rate: str, valid_from: date, source: str
    ) -> None:
        await self.set_rates([parse_rate(base, quote, rate, valid_from, source)])

    async def set_rates(self, rates: list[ExchangeRate]) -> None:
        await self._exchange.put(rates)

    def exchange(self, nanos: int, base: str, quote: str) -> tuple[int, str | None]:
        """An amount in another currency, and the rate it took. Raises `Conflict` without one."""
        return self._in_currency(nanos, base, quote)

    def _in_currency(self, nanos: int, base: str, quote: str) -> tuple[int, str | None]:
        if base == quote:
            return nanos, None
        rate = self._exchange.find(base, quote, self._now_ms())
        if rate is None:
            raise Conflict(
                f"there is no exchange rate from {base} to {quote} for today; set one: "
                f"merino rates set {base} {quote} RATE",
                code="no_exchange_rate",
            )
        amount = exchanged(nanos, rate)
        if amount >= AMOUNT_NANOS_MAX:
            raise InvalidCall(
                f"{format_nanos(nanos)} {base} is too much in {quote}", code="invalid_amount"
            )
        return amount, rate.id

    # Spending

    async def spending(self, reference: str) -> Spending:
        account = self._accounts.find(reference)
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        today = self._now_ms() // DAY_MS
        start = _period_start(account.spend_period, now.date())
        since = min(start, today - FORECAST_DAYS)
        by_day = await self._statements.spent_by_day(account.id, since)
        return forecast(account, by_day, self._now_ms())


def forecast(account: Account, by_day: Mapping[int, int], now_ms: int) -> Spending:
    """Spent so far, plus for the rest of the period the average of the last days.

    The average is over the last `FORECAST_DAYS` full days and what today has had of itself, so that
    it neither forgets today nor takes its morning for a whole day.
    """
    today, into_day_ms = divmod(now_ms, DAY_MS)
    now = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    period = account.spend_period
    start = _period_start(period, now)
    spent = sum(nanos for day, nanos in by_day.items() if day >= start)
    recent = sum(nanos for day, nanos in by_day.items() if day >= today - FORECAST_DAYS)
    known_ms = FORECAST_DAYS * DAY_MS + into_day_ms
    if by_day:
        # A young account's average is over the days it has.
        known_ms = min(known_ms, (today - min(by_day)) * DAY_MS + into_day_ms) or 1
    left_ms = _period_ms_left(period, now, into_day_ms)
    expected = None if left_ms is None else spent + recent * left_ms // known_ms
    cap = account.spend_cap_nanos
    reached: date | None = None
    if cap is not None and recent and cap > spent:
        days = (cap - spent) * known_ms // (recent * DAY_MS)
        if left_ms is None or days * DAY_MS < left_ms:
            reached = date.fromordinal(min(now.toordinal() + days, date.max.toordinal()))
    elif cap is not None and spent >= cap:
        reached = now
    return Spending(period, start, spent, cap, expected, reached)


def _period_start(period: SpendPeriod, today: date) -> int:
    epoch = date(1970, 1, 1).toordinal()
    if period == "total":
        return 0
    first = today.replace(day=1) if period == "month" else today
    return first.toordinal() - epoch


def _period_ms_left(period: SpendPeriod, today: date, into_day_ms: int) -> int | None:
    if period == "total":
        return None
    days = 1
    if period == "month":
        days = monthrange(today.year, today.month)[1] - today.day + 1
    return days * DAY_MS - into_day_ms


def check_currency(currency: str, param: str = "currency") -> None:
    if currency not in CURRENCY_DECIMALS:
        raise InvalidCall(
            f"{param} {currency[:20]!r} is not known; known are {', '.join(CURRENCY_DECIMALS)}",
            param=param,
            code="unknown_currency",
        )


def parse_rate(base: str, quote: str, text: str, valid_from: date, source: str) -> ExchangeRate:
    """Raises `InvalidCall` unless it is a positive rate with at most six decimals."""
    check_currency(base, "base")
    check_currency(quote, "quote")
    if base == quote:
        raise Conflict("base and quote are the same currency", param="quote", code="same_currency")
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal("NaN")
    micros = scaled(rate, 6, _RATE_MICROS_MAX) if rate.is_finite() else None
    if micros is None or micros <= 0:
        raise InvalidCall(
            f"rate {text[:40]!r} must be a number above 0 with at most six decimals",
            param="rate",
            code="invalid_rate",
        )
    return ExchangeRate(base, quote, valid_from, micros, source)


def _new_code() -> str:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
    groups = [letters[start : start + 4] for start in range(0, _CODE_LENGTH, 4)]
    return "-".join([CODE_PREFIX, *groups])


def _hash(code: str) -> bytes:
    """Of the code as people type it: in any case, with or without its dashes."""
    letters = re.sub(r"[\s-]", "", code).upper().removeprefix(CODE_PREFIX)
    return hashlib.sha256(letters.translate(_LOOKALIKES).encode("utf-8", "replace")).digest()
