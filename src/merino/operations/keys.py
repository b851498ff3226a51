"""Virtual keys in the admin API."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.control import Control
from merino.control.ports import KeyTerms
from merino.control.terms import ALIAS_PATTERN, ALIASES_MAX
from merino.domain.account import SpendPeriod
from merino.domain.key import VirtualKey
from merino.domain.money import format_nanos
from merino.operations.fields import (
    Amount,
    Cursor,
    In,
    Limit,
    Name,
    PageLimit,
    Reference,
    Time,
    cap_of,
    given,
    iso,
    ms_of,
)
from merino.operations.table import Asked, Operation

AliasName = Annotated[str, Meta(extra_json_schema={"pattern": ALIAS_PATTERN})]
Aliases = Annotated[
    list[AliasName],
    Meta(
        description="Models this key may call; empty: all.",
        extra_json_schema={"maxItems": ALIASES_MAX},
    ),
]


class NewKey(In):
    account: Reference
    name: Name
    aliases: Aliases = []  # noqa: RUF012 - msgspec gives each its own
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


class KeysQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


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


async def _list_keys(asked: Asked) -> Keys:
    query: KeysQuery = asked.query
    page = asked.control.keys.list(
        account=given(query.account), limit=query.limit, cursor=given(query.cursor)
    )
    return Keys([_key(asked.control, key) for key in page.items], page.next_cursor)


async def _create_key(asked: Asked) -> IssuedKey:
    body: NewKey = asked.body
    terms: KeyTerms = {
        "aliases": tuple(body.aliases),
        "expires_at_ms": ms_of(body.expires_at, "expires_at"),
        "spend_cap_nanos": cap_of(body.spend_cap),
        "spend_period": body.spend_period,
        "rps": body.rps,
        "rpm": body.rpm,
        "tpm": body.tpm,
        "concurrency": body.concurrency,
    }
    key, secret = asked.control.keys.create(body.account, body.name, terms)
    return issued_key_shape(key, asked.control.accounts.find(key.account_id).name, secret)


async def _show_key(asked: Asked) -> Key:
    return _key(asked.control, asked.control.keys.find(asked.path["key"]))


async def _update_key(asked: Asked) -> Key:
    body: KeyChange = asked.body
    terms: KeyTerms = {}
    if body.name is not UNSET:
        terms["name"] = body.name
    if body.aliases is not UNSET:
        terms["aliases"] = tuple(body.aliases)
    if body.expires_at is not UNSET:
        terms["expires_at_ms"] = ms_of(body.expires_at, "expires_at")
    if body.disabled is not UNSET:
        terms["disabled"] = body.disabled
    if body.spend_cap is not UNSET:
        terms["spend_cap_nanos"] = cap_of(body.spend_cap)
    if body.spend_period is not UNSET:
        terms["spend_period"] = body.spend_period
    if body.rps is not UNSET:
        terms["rps"] = body.rps
    if body.rpm is not UNSET:
        terms["rpm"] = body.rpm
    if body.tpm is not UNSET:
        terms["tpm"] = body.tpm
    if body.concurrency is not UNSET:
        terms["concurrency"] = body.concurrency
    return _key(asked.control, asked.control.keys.update(asked.path["key"], terms))


async def _disable_key(asked: Asked) -> Key:
    return _key(asked.control, asked.control.keys.disable(asked.path["key"]))


async def _enable_key(asked: Asked) -> Key:
    return _key(asked.control, asked.control.keys.enable(asked.path["key"]))


async def _rotate_key(asked: Asked) -> IssuedKey:
    key, secret = asked.control.keys.rotate(asked.path["key"])
    return issued_key_shape(key, asked.control.accounts.find(key.account_id).name, secret)


def _key(control: Control, key: VirtualKey) -> Key:
    return key_shape(key, control.accounts.find(key.account_id).name)


KEY_OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/keys", "list_keys", "List keys", _list_keys, Keys, query=KeysQuery),
    Operation(
        "POST",
        "/keys",
        "create_key",
        "Issue a key; its secret is in this answer and nowhere else",
        _create_key,
        IssuedKey,
        body=NewKey,
        status=201,
    ),
    Operation("GET", "/keys/{key}", "show_key", "Show one", _show_key, Key),
    Operation(
        "PATCH",
        "/keys/{key}",
        "update_key",
        "Change what a key may do",
        _update_key,
        Key,
        body=KeyChange,
    ),
    Operation(
        "DELETE",
        "/keys/{key}",
        "delete_key",
        "Disable a key; it stays listed, since calls refer to it",
        _disable_key,
        Key,
    ),
    Operation("POST", "/keys/{key}/disable", "disable_key", "Disable a key", _disable_key, Key),
    Operation("POST", "/keys/{key}/enable", "enable_key", "Enable a key again", _enable_key, Key),
    Operation(
        "POST",
        "/keys/{key}/rotate",
        "rotate_key",
        "Give a key a new secret; the old one is void at once",
        _rotate_key,
        IssuedKey,
    ),
)
