"""The fields that many of the admin API's shapes share, and how they are read and written. Money is
exact decimal text beside integer nano-units, times are ISO 8601 in UTC."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, TypedDict, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.accounts import MEMO_LENGTH_MAX
from merino.control.names import NAME_PATTERN
from merino.control.terms import (
    AMOUNT_PATTERN,
    AMOUNT_UNITS_MAX,
    LIMIT_MAX,
    WEIGHT_MAX,
    nanos_of,
)
from merino.domain.currencies import CURRENCY_DECIMALS
from merino.domain.errors import InvalidCall
from merino.operations.kinds import Reads

PAGE_LIMIT_MAX = 500
_MS_MAX = 253_402_300_800_000
"""The year 10000."""


def ms_of(time: str, field: str) -> int:
    """A time as it came in, as epoch milliseconds. Raises `InvalidCall`."""
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


_DURATION = re.compile(r"([0-9]{1,7})([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(said: str | float, field: str) -> int:
    """A duration as it came in. Raises `InvalidCall`."""
    found = _DURATION.fullmatch(str(said))
    if found is None:
        raise InvalidCall(
            f"{field} must be seconds, or a number with its unit: 90s, 10m, 2h, 7d",
            param=field,
            code="invalid_time",
        )
    return int(found[1]) * _UNIT_S[found[2]]


# Narrower than what is taken: forms that a pattern can state exactly.
_DURATION_PATTERN = r"^([0-9]{1,6}s|[0-9]{1,4}m|[0-9]{1,2}h|[12]?[0-9]d)$"
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
    Reads(nanos_of),
    Meta(
        description='Decimal text such as "5.00", with at most nine decimals, or a whole number.',
        extra_json_schema={
            "x-any-of": [
                {"type": "string", "pattern": AMOUNT_PATTERN},
                {"type": "integer", "minimum": 0, "maximum": AMOUNT_UNITS_MAX},
            ]
        },
    ),
]
PositiveAmount = Annotated[
    str | int | float,
    Reads(nanos_of),
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
    Reads(ms_of),
    Meta(
        description="ISO 8601 with an offset, such as 2026-11-24T12:00:00Z.",
        extra_json_schema={"pattern": _TIME_PATTERN},
    ),
]
Duration = Annotated[
    str | int,
    Reads(seconds_of),
    Meta(
        description="Seconds, or a number with its unit: 90s, 10m, 2h, 7d.",
        extra_json_schema={
            "x-any-of": [
                {"type": "string", "pattern": _DURATION_PATTERN},
                {"type": "integer", "minimum": 0, "maximum": 30 * 86_400},
            ]
        },
    ),
]
Group = Annotated[
    str,
    Meta(
        description="Its pricing group, which chooses the margin.",
        extra_json_schema={"pattern": NAME_PATTERN, "minLength": 1, "maxLength": 100},
    ),
]
Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
Weight = Annotated[
    float,
    Meta(
        gt=0,
        le=WEIGHT_MAX,
        description="Its share of the turns when calls of several accounts wait.",
    ),
]
Reference = Annotated[str, Meta(description="An id or a name.")]
PageLimit = Annotated[int, Meta(ge=1, le=PAGE_LIMIT_MAX, description="How many at most.")]
Cursor = Annotated[str, Meta(description="`next_cursor` of the page before.")]
Currency = Annotated[
    str,
    Meta(
        description=f"One of {', '.join(CURRENCY_DECIMALS)}.",
        extra_json_schema={"enum": list(CURRENCY_DECIMALS)},
    ),
]
Short = Annotated[str, Meta(extra_json_schema={"maxLength": 100, "pattern": r"^[!-~ ]*$"})]


class In(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What comes in: unknown fields are refused, so that a misspelt one is no surprise later."""


class NoQuery(In):
    pass


class PageQuery(In, kw_only=True):
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class NewLimits(In, kw_only=True):
    rps: Limit | None = None
    rpm: Limit | None = None
    tpm: Limit | None = None
    concurrency: Limit | None = None


class LimitsChange(In, kw_only=True):
    """What is left out stays as it is; `null` takes a limit away."""

    rps: Limit | UnsetType | None = UNSET
    rpm: Limit | UnsetType | None = UNSET
    tpm: Limit | UnsetType | None = UNSET
    concurrency: Limit | UnsetType | None = UNSET


class PageParts(TypedDict):
    """Which part of a list."""

    limit: int
    cursor: str | None


def page_of(query: PageQuery) -> PageParts:
    return {"limit": query.limit, "cursor": given(query.cursor)}


V = TypeVar("V")


def given(value: V | UnsetType) -> V | None:
    """A parameter's value, `None` if it was left out."""
    return None if isinstance(value, UnsetType) else value
