"""The relay's own bearer secrets. A provider's secret is a *credential*, never a key."""

from __future__ import annotations

from dataclasses import dataclass

from merino.domain.account import SpendPeriod
from merino.domain.limits import NO_LIMITS, Limits

KEY_PREFIX = "mk-"
ADMIN_KEY_PREFIX = "mka-"


def hint_of(secret: str) -> str:
    """As much of a secret as may be shown."""
    return f"{secret[:7]}...{secret[-4:]}"


@dataclass(frozen=True, slots=True)
class AdminKey:
    """An operator's key as stored: never the secret, only its keyed hash and its ends."""

    id: str
    name: str
    hint: str
    secret_hash: bytes
    created_at_ms: int = 0
    disabled: bool = False
    last_used_ms: int | None = None


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A key as stored: never the secret, only its keyed hash and its first characters.

    `aliases` is empty when every alias may be called. `spend_cap_nanos` of `None` means no cap.
    `old_hash`, `old_hint` and `old_expires_at_ms` are of the secret before the last rotation, which
    is good until then.
    """

    id: str
    account_id: str
    name: str
    hint: str
    secret_hash: bytes
    aliases: tuple[str, ...] = ()
    created_at_ms: int = 0
    expires_at_ms: int | None = None
    disabled: bool = False
    spend_cap_nanos: int | None = None
    spend_period: SpendPeriod = "total"
    limits: Limits = NO_LIMITS
    old_hash: bytes | None = None
    old_hint: str | None = None
    old_expires_at_ms: int | None = None

    def may_call(self, alias: str) -> bool:
        return not self.aliases or alias in self.aliases
