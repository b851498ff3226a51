"""Virtual keys: who may call, what, and how much."""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.ports import KeyTerms
from merino.control.terms import ALIAS_PATTERN, ALIASES_MAX
from merino.domain.account import SpendPeriod
from merino.domain.key import VirtualKey
from merino.operations.fields import (
    Amount,
    Duration,
    In,
    LimitsChange,
    Name,
    NewLimits,
    PageQuery,
    Reference,
    Time,
    given,
    page_of,
    seconds_of,
)
from merino.operations.shape import shown, shows, taken
from merino.operations.table import Asked, Operations

AliasName = Annotated[str, Meta(extra_json_schema={"pattern": ALIAS_PATTERN})]
Aliases = Annotated[
    list[AliasName],
    Meta(
        description="Models this key may call; empty: all.",
        extra_json_schema={"maxItems": ALIASES_MAX},
    ),
]


class NewKey(NewLimits):
    account: Reference
    name: Name
    aliases: Aliases = []  # noqa: RUF012 - msgspec gives each its own
    expires_at: Time | None = None
    spend_cap: Amount | None = None
    spend_period: SpendPeriod = "total"


class KeyChange(LimitsChange):
    """What is left out stays as it is; `null` takes a limit away."""

    name: Name | UnsetType = UNSET
    aliases: Aliases | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    spend_cap: Amount | UnsetType | None = UNSET
    spend_period: SpendPeriod | UnsetType = UNSET
    old_expires_at: Time | UnsetType | None = UNSET


class Rotation(In):
    """`keep_old`: how long the old secret is still good, so that whoever uses it has time to change
    to the new one."""

    keep_old: Duration = 0


class KeysQuery(PageQuery):
    account: Reference | UnsetType = UNSET


_HASH = "what a secret is compared with"


@shows(VirtualKey, hidden={"secret_hash": _HASH, "old_hash": _HASH})
class Key(Struct):
    """`hint` is how the secret begins; the secret itself is not kept. `old_hint` is the one before
    the last rotation, which is good until `old_expires_at`."""

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
    old_hint: str | None
    old_expires_at: str | None


class IssuedKey(Key, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: str


class Keys(Struct):
    data: list[Key]
    next_cursor: str | None


K = TypeVar("K", bound=Key)


def _shown(asked: Asked, kind: type[K], found: VirtualKey, **more: str) -> K:
    account = asked.control.accounts.find(found.account_id)
    return shown(kind, found, account=account.name, **more)


OPERATIONS = Operations()


@OPERATIONS.get("/keys", "List keys")
async def list_keys(asked: Asked, query: KeysQuery) -> Keys:
    page = asked.control.keys.list(account=given(query.account), **page_of(query))
    return Keys([_shown(asked, Key, key) for key in page.items], page.next_cursor)


@OPERATIONS.post("/keys", "Issue a key; its secret is in this answer and nowhere else", status=201)
async def create_key(asked: Asked, body: NewKey) -> IssuedKey:
    key, secret = await asked.control.keys.create(body.account, body.name, taken(KeyTerms, body))
    return _shown(asked, IssuedKey, key, key=secret)


@OPERATIONS.get("/keys/{key}", "Show one")
async def show_key(asked: Asked) -> Key:
    return _shown(asked, Key, asked.control.keys.find(asked.path["key"]))


@OPERATIONS.at("PATCH", "/keys/{key}", "Change what a key may do")
async def update_key(asked: Asked, body: KeyChange) -> Key:
    terms = taken(KeyTerms, body)
    return _shown(asked, Key, await asked.control.keys.update(asked.path["key"], terms))


@OPERATIONS.at("DELETE", "/keys/{key}", "Disable a key; it stays listed, since calls refer to it")
async def delete_key(asked: Asked) -> Key:
    return _shown(asked, Key, await asked.control.keys.disable(asked.path["key"]))


@OPERATIONS.post("/keys/{key}/disable", "Disable a key")
async def disable_key(asked: Asked) -> Key:
    return _shown(asked, Key, await asked.control.keys.disable(asked.path["key"]))


@OPERATIONS.post("/keys/{key}/enable", "Enable a key again")
async def enable_key(asked: Asked) -> Key:
    return _shown(asked, Key, await asked.control.keys.enable(asked.path["key"]))


@OPERATIONS.post(
    "/keys/{key}/rotate", "Give a key a new secret; the old one ends, at once or later"
)
async def rotate_key(asked: Asked, body: Rotation) -> IssuedKey:
    keep_old_s = seconds_of(body.keep_old, "keep_old")
    key, secret = await asked.control.keys.rotate(asked.path["key"], keep_old_s)
    return _shown(asked, IssuedKey, key, key=secret)
