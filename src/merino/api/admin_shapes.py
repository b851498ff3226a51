"""The admin API's JSON: what it takes and what it gives. Money is exact decimal text beside integer
nano-units, times are ISO 8601 in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control import AccountState
from merino.control.accounts import MEMO_LENGTH_MAX
from merino.control.names import NAME_PATTERN
from merino.control.ports import Difference as FoundDifference
from merino.control.ports import Page, ReportBy, ReportRow
from merino.control.ports import Verification as Verified
from merino.domain.account import ACCOUNT_CURRENCIES, SpendPeriod
from merino.domain.call import CallRecord
from merino.domain.deployment import Deployment, DeploymentState
from merino.domain.errors import InvalidCall
from merino.domain.key import VirtualKey
from merino.domain.ledger import Entry as LedgerEntry
from merino.domain.ledger import EntryKind, Resolution
from merino.domain.money import NANOS_PER_UNIT, format_nanos, parse_nanos

PAGE_LIMIT_MAX = 500
AMOUNT_UNITS_MAX = 1_000_000_000
_AMOUNT_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
_AMOUNT = re.compile(_AMOUNT_PATTERN.removesuffix("$") + r"\Z")
_ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,199}$"
_ALIAS = re.compile(_ALIAS_PATTERN.removesuffix("$") + r"\Z")
_MS_MAX = 253_402_300_800_000
"""The year 10000."""
# Narrower than what is taken: a form that a pattern can state exactly.
_TIME_PATTERN = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?Z$"
)

Name = Annotated[
    str,
    Meta(
        description="Unique; letters, digits, spaces and . _ @ : + -, a letter or digit first.",
        extra_json_schema={"pattern": NAME_PATTERN, "minLength": 1, "maxLength": 100},
    ),
]
Amount = Annotated[
    str | int | float,
    Meta(
        description='Decimal text such as "5.00", with at most nine decimals, or a whole number.',
        extra_json_schema={
            "x-any-of": [
                {"type": "string", "pattern": _AMOUNT_PATTERN},
                {"type": "integer", "minimum": 0, "maximum": AMOUNT_UNITS_MAX},
            ]
        },
    ),
]
PositiveAmount = Annotated[
    str | int | float,
    Meta(
        description='More than zero; decimal text such as "5.00", or a whole number.',
        extra_json_schema={
            "x-any-of": [
                {
                    "type": "string",
                    "pattern": r"^(0\.[0-9]{0,8}[1-9]|[1-9][0-9]{0,8}(\.[0-9]{1,9})?)$",
                },
                {"type": "integer", "minimum": 1, "maximum": AMOUNT_UNITS_MAX},
            ]
        },
    ),
]
Memo = Annotated[
    str,
    Meta(
        description="Why the money moves; kept with the entry for good.",
        extra_json_schema={"maxLength": MEMO_LENGTH_MAX, "pattern": r"^[^\u0000]*$"},
    ),
]
Time = Annotated[
    str,
    Meta(
        description="ISO 8601 with an offset, such as 2026-11-24T12:00:00Z.",
        extra_json_schema={"pattern": _TIME_PATTERN},
    ),
]
AliasName = Annotated[str, Meta(extra_json_schema={"pattern": _ALIAS_PATTERN})]
Aliases = Annotated[
    list[AliasName],
    Meta(
        description="Models this key may call; empty: all.",
        extra_json_schema={"maxItems": 1000},
    ),
]
AccountCurrency = Annotated[
    str,
    Meta(
        description="What its balance is in.",
        extra_json_schema={"enum": list(ACCOUNT_CURRENCIES)},
    ),
]
Group = Annotated[
    str,
    Meta(
        description="Its pricing group, which chooses the margin.",
        extra_json_schema={"pattern": NAME_PATTERN, "minLength": 1, "maxLength": 100},
    ),
]
Limit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Reference = Annotated[str, Meta(description="An id or a name.")]


class In(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What comes in: unknown fields are refused, so that a misspelt one is no surprise later."""


# -- bodies ---------------------------------------------------------------------------------------


class NewAccount(In):
    name: Name
    overdraft: Amount = "0"
    currency: AccountCurrency = "USD"
    group: Group = "standard"


class AccountChange(In):
    name: Name | UnsetType = UNSET
    overdraft: Amount | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    group: Group | UnsetType = UNSET
    spend_cap: Amount | UnsetType | None = UNSET
    spend_period: SpendPeriod | UnsetType = UNSET
    notice_below: Amount | UnsetType | None = UNSET
    topup_below: Amount | UnsetType | None = UNSET
    topup_amount: PositiveAmount | UnsetType | None = UNSET


class Movement(In):
    amount: PositiveAmount
    memo: Memo | None = None


class NewKey(In):
    account: Reference
    name: Name
    aliases: Aliases = []
    expires_at: Time | None = None
    spend_cap: Amount | None = None
    spend_period: SpendPeriod = "total"
    rps: Limit | None = None
    rpm: Limit | None = None
    tpm: Limit | None = None
    concurrency: Limit | None = None


class KeyChange(In):
    """What is left out stays as it is; `null` takes a limit away."""

    name: Name | UnsetType = UNSET
    aliases: Aliases | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    spend_cap: Amount | UnsetType | None = UNSET
    spend_period: SpendPeriod | UnsetType = UNSET
    rps: Limit | UnsetType | None = UNSET
    rpm: Limit | UnsetType | None = UNSET
    tpm: Limit | UnsetType | None = UNSET
    concurrency: Limit | UnsetType | None = UNSET


# -- queries --------------------------------------------------------------------------------------

PageLimit = Annotated[int, Meta(ge=1, le=PAGE_LIMIT_MAX, description="How many at most.")]
Cursor = Annotated[str, Meta(description="`next_cursor` of the page before.")]


class NoQuery(In):
    pass


class PageQuery(In):
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class KeysQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class CallsQuery(In):
    account: Reference | UnsetType = UNSET
    key: Reference | UnsetType = UNSET
    alias: str | UnsetType = UNSET
    status: Annotated[int, Meta(ge=100, le=599)] | UnsetType = UNSET
    resolution: Resolution | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class EntriesQuery(In):
    account: Reference | UnsetType = UNSET
    call: str | UnsetType = UNSET
    kind: EntryKind | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class AccountEntriesQuery(In):
    call: str | UnsetType = UNSET
    kind: EntryKind | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class ReportQuery(In):
    by: ReportBy = "day"
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class ExportQuery(In):
    format: Literal["csv", "jsonl"] = "jsonl"


# -- answers --------------------------------------------------------------------------------------


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


class Account(Struct):
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


class Accounts(Struct):
    data: list[Account]
    next_cursor: str | None


class Key(Struct):
    """`hint` is how the secret begins; the secret itself is not kept."""

    id: str
    name: str
    account_id: str
    account: str
    hint: str
    aliases: list[str]
    disabled: bool
    created_at: str
    expires_at: str | None
    spend_cap: str | None
    spend_cap_nanos: int | None
    spend_period: str
    rps: int | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None


class IssuedKey(Key, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: str


class Keys(Struct):
    data: list[Key]
    next_cursor: str | None


class CallAttempt(Struct):
    deployment: str
    started_ms: float
    duration_ms: float
    outcome: str
    status: int
    reason_for_next: str | None


class Call(Struct):
    id: str
    account_id: str
    key_id: str
    alias: str
    endpoint: str
    at: str
    status: int
    deployment: str
    upstream_model: str
    streamed: bool
    error_code: str | None
    finish_reason: str | None
    resolution: str
    duration_ms: float
    ttft_ms: float | None
    queue_ms: float
    relay_ms: float
    upstream_ms: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    usage_source: str
    held: str
    held_nanos: int
    charged: str
    charged_nanos: int
    overrun: str
    overrun_nanos: int
    upstream: str
    upstream_nanos: int
    price_id: str | None
    idempotency_key: str | None
    attempts: list[CallAttempt]


class CallWithContent(Call, kw_only=True):
    """`request_json` and `response_text` are kept only with `calls.store_content`."""

    request_json: str | None
    response_text: str | None


class Calls(Struct):
    data: list[Call]
    next_cursor: str | None


class Entry(Struct):
    id: int
    at: str
    kind: str
    debit_account: str
    credit_account: str
    amount: str
    amount_nanos: int
    call_id: str | None
    key_id: str | None
    upstream: str
    upstream_nanos: int
    price_id: str | None
    reference: str | None
    exchange: str | None
    memo: str | None


class Entries(Struct):
    data: list[Entry]
    next_cursor: str | None


class Moved(Struct):
    """The entry that was written, and the account after it."""

    entry: Entry
    account: Account


class ReportLine(Struct):
    group: str
    name: str
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    charged: str
    charged_nanos: int
    overrun: str
    overrun_nanos: int
    upstream: str
    upstream_nanos: int


class Report(Struct):
    by: ReportBy
    data: list[ReportLine]


class BreakerChangeShape(Struct):
    at: str
    state: str
    reason: str


class DeploymentStateShape(Struct):
    """`breaker`: closed, open or half_open. `usable_in_s`: 0 while it takes calls, null while only
    an operator can help."""

    breaker: str
    reason: str
    usable_in_s: float | None
    drained: bool
    in_flight: int
    concurrency_limit: int | None
    first_token_s: float
    history: list[BreakerChangeShape]


class DeploymentShape(Struct):
    name: str
    provider: str
    base_url: str
    upstream_model: str
    price_model: str
    has_credential: bool
    on_disconnect: str
    connect_timeout_s: float
    first_token_timeout_s: float
    idle_timeout_s: float
    state: DeploymentStateShape | None


class Drain(In):
    """`drained`: true sends it no new calls, false sends them again."""

    name: str
    drained: bool = True


class Deployments(Struct):
    data: list[DeploymentShape]


class Difference(Struct):
    what: str
    expected: str
    actual: str


class Verification(Struct):
    """`ok` if every balance equals what its entries add up to."""

    ok: bool
    entries: int
    accounts: int
    differences: list[Difference]


class ErrorDetail(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    error: ErrorDetail


# -- from JSON ------------------------------------------------------------------------------------


def nanos_of(amount: str | float, field: str) -> int:
    """An amount as it came in; floats are refused, since they cannot say every amount exactly."""
    if isinstance(amount, str):
        if _AMOUNT.match(amount):
            return parse_nanos(amount)
    elif 0 <= amount <= AMOUNT_UNITS_MAX and amount == int(amount):
        return int(amount) * NANOS_PER_UNIT
    raise InvalidCall(
        f'{field} must be decimal text with at most nine decimals, such as "5.00", or a whole '
        f"number up to {AMOUNT_UNITS_MAX}, and not negative",
        param=field,
        code="invalid_amount",
    )


def ms_of(time: str | UnsetType | None, field: str) -> int | None:
    """A time as it came in, as epoch milliseconds."""
    if time is None or isinstance(time, UnsetType):
        return None
    try:
        moment = datetime.fromisoformat(time)
        ms = None if moment.tzinfo is None else int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        ms = None
    if ms is None or not 0 <= ms < _MS_MAX:
        raise InvalidCall(
            f"{field} must be a time with an offset, such as 2026-11-24T12:00:00Z",
            param=field,
            code="invalid_time",
        )
    return ms


def aliases_of(aliases: Sequence[str]) -> tuple[str, ...]:
    if len(aliases) > 1000 or not all(_ALIAS.match(alias) for alias in aliases):
        raise InvalidCall(
            "aliases must be at most 1000 model names of letters, digits and . _ / : @ + -",
            param="aliases",
            code="invalid_alias",
        )
    return tuple(dict.fromkeys(aliases))


# -- to JSON --------------------------------------------------------------------------------------


def iso(ms: int) -> str:
    """Epoch milliseconds as ISO 8601 in UTC."""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def account_shape(state: AccountState) -> Account:
    account, balance = state.account, state.balance
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
        spend_cap=_optional(account.spend_cap_nanos),
        spend_cap_nanos=account.spend_cap_nanos,
        spend_period=account.spend_period,
        notice_below=_optional(account.notice_below_nanos),
        topup_below=_optional(account.topup_below_nanos),
        topup_amount=_optional(account.topup_nanos),
    )


def _optional(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)


def key_shape(key: VirtualKey, account_name: str) -> Key:
    return Key(**_key_fields(key, account_name))


def issued_key_shape(key: VirtualKey, account_name: str, secret: str) -> IssuedKey:
    return IssuedKey(**_key_fields(key, account_name), key=secret)


def _key_fields(key: VirtualKey, account_name: str) -> dict[str, Any]:
    cap = key.spend_cap_nanos
    return {
        "id": key.id,
        "name": key.name,
        "account_id": key.account_id,
        "account": account_name,
        "hint": key.hint,
        "aliases": list(key.aliases),
        "disabled": key.disabled,
        "created_at": iso(key.created_at_ms),
        "expires_at": None if key.expires_at_ms is None else iso(key.expires_at_ms),
        "spend_cap": None if cap is None else format_nanos(cap),
        "spend_cap_nanos": cap,
        "spend_period": key.spend_period,
        "rps": key.rps,
        "rpm": key.rpm,
        "tpm": key.tpm,
        "concurrency": key.concurrency,
    }


def call_shape(record: CallRecord) -> Call:
    return Call(**_call_fields(record))


def call_with_content_shape(record: CallRecord) -> CallWithContent:
    return CallWithContent(
        **_call_fields(record),
        request_json=record.request_json,
        response_text=record.response_text,
    )


_CALL_AS_IS = tuple(
    name for name in Call.__struct_fields__ if name in CallRecord.__dataclass_fields__
)


def _call_fields(record: CallRecord) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in _CALL_AS_IS}
    fields["at"] = iso(record.at_ms)
    for name in ("held", "charged", "overrun", "upstream"):
        fields[name] = format_nanos(getattr(record, f"{name}_nanos"))
    fields["attempts"] = [
        CallAttempt(
            deployment=attempt.deployment,
            started_ms=attempt.started_ms,
            duration_ms=attempt.duration_ms,
            outcome=attempt.outcome,
            status=attempt.status,
            reason_for_next=attempt.reason_for_next,
        )
        for attempt in record.attempts
    ]
    return fields


def entry_shape(entry: LedgerEntry) -> Entry:
    return Entry(
        id=entry.id,
        at=iso(entry.at_ms),
        kind=entry.kind,
        debit_account=entry.debit_account,
        credit_account=entry.credit_account,
        amount=format_nanos(entry.amount_nanos),
        amount_nanos=entry.amount_nanos,
        call_id=entry.call_id,
        key_id=entry.key_id,
        upstream=format_nanos(entry.upstream_nanos),
        upstream_nanos=entry.upstream_nanos,
        price_id=entry.price_id,
        reference=entry.reference,
        exchange=entry.exchange,
        memo=entry.memo,
    )


def entries_shape(page: Page[LedgerEntry]) -> Entries:
    return Entries([entry_shape(entry) for entry in page.items], page.next_cursor)


def report_line_shape(row: ReportRow, name_of: Callable[[str], str]) -> ReportLine:
    return ReportLine(
        group=row.group,
        name=name_of(row.group),
        calls=row.calls,
        failed=row.failed,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        charged=format_nanos(row.charged_nanos),
        charged_nanos=row.charged_nanos,
        overrun=format_nanos(row.overrun_nanos),
        overrun_nanos=row.overrun_nanos,
        upstream=format_nanos(row.upstream_nanos),
        upstream_nanos=row.upstream_nanos,
    )


def _state_shape(state: DeploymentState) -> DeploymentStateShape:
    return DeploymentStateShape(
        breaker=state.breaker,
        reason=state.reason,
        usable_in_s=round(state.usable_in_s, 3) if isfinite(state.usable_in_s) else None,
        drained=state.is_drained,
        in_flight=state.in_flight,
        concurrency_limit=state.concurrency_limit,
        first_token_s=round(state.first_token_s, 4),
        history=[
            BreakerChangeShape(iso(each.at_ms), each.state, each.reason) for each in state.history
        ],
    )


def deployment_shape(deployment: Deployment, state: DeploymentState | None) -> DeploymentShape:
    return DeploymentShape(
        name=deployment.name,
        provider=deployment.provider,
        base_url=deployment.base_url,
        upstream_model=deployment.upstream_model,
        price_model=deployment.price_model,
        has_credential=bool(deployment.credential),
        on_disconnect=deployment.on_disconnect,
        connect_timeout_s=deployment.connect_timeout_s,
        first_token_timeout_s=deployment.first_token_timeout_s,
        idle_timeout_s=deployment.idle_timeout_s,
        state=None if state is None else _state_shape(state),
    )


def verification_shape(verified: Verified) -> Verification:
    def shape(found: FoundDifference) -> Difference:
        return Difference(found.what, found.expected, found.actual)

    return Verification(
        ok=not verified.differences,
        entries=verified.entries,
        accounts=verified.accounts,
        differences=[shape(found) for found in verified.differences],
    )


# -- decoding, with the field's name in what is said ----------------------------------------------

T = TypeVar("T", bound=Struct)
V = TypeVar("V")
_AT_FIELD = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED_FIELD = re.compile(r"field `([^`]*)`")


def decode_body(body: bytes, kind: type[T]) -> T:
    """Raises `InvalidCall` that names the field."""
    try:
        content: object = msgspec.json.decode(body)
        if isinstance(content, dict):
            content = {
                name: _whole(value) for name, value in cast("dict[str, object]", content).items()
            }
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidCall(
            f"The body is not valid JSON in UTF-8: {reason}", code="invalid_json"
        ) from None


def _whole(value: object) -> object:
    """JSON knows one kind of number: 5.0 is as good an integer as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def given(value: V | UnsetType) -> V | None:
    """A parameter's value, `None` if it was left out."""
    return None if isinstance(value, UnsetType) else value


def decode_query(pairs: Sequence[tuple[str, str]], kind: type[T]) -> T:
    """Raises `InvalidCall` that names the parameter."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidCall(
                f"{name!r} is given twice; give it once", param=name, code="invalid_value"
            )
        if "\0" in value or "\ufffd" in value:
            raise InvalidCall(
                f"{name!r} has characters that are not text", param=name, code="invalid_value"
            )
        values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: msgspec.ValidationError) -> InvalidCall:
    text = str(error)
    at = _AT_FIELD.search(text)
    # `[...]` is where msgspec stops before it knows any field.
    param = at[1].removeprefix("[...]") if at else ""
    if named := _NAMED_FIELD.search(text):
        param = f"{param}.{named[1]}" if param else named[1]
    reason = _AT_FIELD.sub("", text)
    message = f"{param}: {reason}" if param else reason
    return InvalidCall(message, param=param or None, code="invalid_value")
