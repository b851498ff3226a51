"""What the relay's own records say, read through its admin API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from merino.doctor.finding import Finding, ok, problem
from merino.doctor.latency import check_timeout, p99_of
from merino.doctor.pace import KeyLimits, SeenCall, check_pace

CALLS_MAX = 5000
KEYS_MAX = 5000
LATENCY_SINCE = timedelta(days=7)
PACE_SINCE = timedelta(hours=1)
_ANSWERED_OR_GIVEN_UP = frozenset((200, 499, 504))
_RATE_CODES = frozenset(("rate_limit_exceeded",))
_HINT_BEGINNING = 7
_HINT_END = 4


class Admin(Protocol):
    """The admin API of a data folder."""

    async def ask(self, method: str, path: str) -> dict[str, Any]: ...

    async def list(self, path: str, *, query: dict[str, Any], limit: int) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Books:
    """What was read, as the admin API gives it. `account` is that of the key in question."""

    verification: Mapping[str, Any]
    answered: Sequence[Mapping[str, Any]]
    recent: Sequence[Mapping[str, Any]]
    keys: Mapping[str, KeyLimits]
    account: Mapping[str, Any] | None


async def read_books(admin: Admin, api_key: str, model: str | None, now: datetime) -> Books:
    """Raises `MerinoError` when the books cannot be read."""
    verification = await admin.ask("GET", "/ledger/verify")
    since = _iso(now - LATENCY_SINCE)
    answered = await admin.list("/calls", query={"since": since, "alias": model}, limit=CALLS_MAX)
    recent = await admin.list("/calls", query={"since": _iso(now - PACE_SINCE)}, limit=CALLS_MAX)
    keys = (await admin.list("/keys", query={}, limit=KEYS_MAX))["data"]
    account: Mapping[str, Any] | None = None
    hint = f"{api_key[:_HINT_BEGINNING]}...{api_key[-_HINT_END:]}"
    for key in keys:
        if api_key and key["hint"] == hint:
            account = await admin.ask("GET", f"/accounts/{key['account_id']}")
    limits = {key["id"]: KeyLimits(key["name"], key["rps"], key["rpm"]) for key in keys}
    return Books(verification, answered["data"], recent["data"], limits, account)


def check_books(books: Books, timeout_s: float) -> list[Finding]:
    return [
        *check_verification(books.verification),
        *check_account(books.account),
        *check_latencies(books.answered, timeout_s),
        # What was refused before it named a model never met a limit.
        *check_pace([_seen(call) for call in books.recent if call["alias"]], books.keys),
    ]


def check_verification(verification: Mapping[str, Any]) -> list[Finding]:
    if verification["ok"]:
        seen = f"The books balance: {verification['entries']} entries."
        return [ok("database", "The database can be read."), ok("ledger", seen)]
    differences = verification["differences"]
    first = differences[0] if differences else {"what": "?", "expected": "?", "actual": "?"}
    return [
        problem(
            "ledger",
            f"The books do not balance: {len(differences)} differences, the first: {first['what']} "
            f"is {first['actual']}, and should be {first['expected']}.",
            "Stop the relay, keep a copy of the data folder, and see `merino ledger verify`.",
        )
    ]


def check_account(account: Mapping[str, Any] | None) -> list[Finding]:
    """Whether the key's account has anything left."""
    if account is None:
        return []
    balance = account["balance"]
    shown = f"account '{account['name']}' has {balance['available']} {account['currency']}"
    if account["disabled"]:
        seen = f"The key's account '{account['name']}' is disabled."
        return [problem("key-disabled", seen, "Enable it: merino accounts update NAME --enable.")]
    if balance["available_nanos"] > 0:
        return [ok("credit-used-up", f"The key's {shown}.")]
    mend = f"Add credit: merino accounts credit {account['name']} AMOUNT."
    return [problem("credit-used-up", f"The key's {shown} left, so every call is refused.", mend)]


def check_latencies(calls: Sequence[Mapping[str, Any]], timeout_s: float) -> list[Finding]:
    """Every model that is slower than the program waits; if none is, the slowest."""
    durations: dict[str, list[float]] = {}
    for call in calls:
        # Who was cut off says how long it takes as much as who was answered.
        if call["status"] in _ANSWERED_OR_GIVEN_UP:
            durations.setdefault(call["alias"], []).append(call["duration_ms"] / 1000)
    known = [(p99, alias) for alias, each in durations.items() if (p99 := p99_of(each)) is not None]
    known.sort(reverse=True)
    slow = [(p99, alias) for p99, alias in known if p99 > timeout_s]
    return [
        finding
        for p99, alias in (slow or known[:1])
        for finding in check_timeout(alias, p99, timeout_s)
    ]


def _seen(call: Mapping[str, Any]) -> SeenCall:
    at_ms = int(datetime.fromisoformat(call["at"]).timestamp() * 1000)
    is_refused = call["status"] == 429 and call["error_code"] in _RATE_CODES
    return SeenCall(call["key_id"], at_ms, is_refused, call["idempotency_key"])


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
