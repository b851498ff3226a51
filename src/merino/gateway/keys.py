"""Find the key for a bearer secret, and what that key may call."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from time import time

from merino.domain.deployment import Alias
from merino.domain.errors import AliasNotAllowed, KeyRejected
from merino.domain.key import ADMIN_KEY_PREFIX, KEY_PREFIX, VirtualKey
from merino.gateway.ports import AccountBook, KeyRing
from merino.wire.unreadable import shown

_FOREIGN_KEYS = (
    (b"sk-ant-", "an Anthropic key"),
    (b"sk-or-", "an OpenRouter key"),
    (b"sk-", "an OpenAI key"),
    (b"AIza", "a Google key"),
    (b"gsk_", "a Groq key"),
)
_MEANT_CHARS_MAX = 64
_MEANT_NAMES_MAX = 500


class Gatekeeper:
    """Who calls, and may they call this alias?"""

    def __init__(self, keys: KeyRing, accounts: AccountBook) -> None:
        self._keys = keys
        self._account = accounts.get

    def authenticate(self, authorization: bytes | None) -> VirtualKey:
        """The usable key of an ``Authorization`` header. Raises `KeyRejected`."""
        return self.admit(bearer_secret(authorization))

    def admit(self, secret: bytes) -> VirtualKey:
        key = self._keys.find(secret)
        if key is None:
            raise self._unknown(secret)
        self.check(key)
        return key

    def _unknown(self, secret: bytes) -> KeyRejected:
        """Its owner is told that a secret was replaced; others who have it knew that key anyway."""
        key = self._keys.replaced(secret)
        if key is None:
            return KeyRejected(_why_unknown(secret), code="invalid_api_key")
        error = KeyRejected(
            f"This secret of key '{key.name}' ({key.old_hint}) was replaced and is no longer good. "
            f"Use the new one ({key.hint}).",
            code="invalid_api_key",
        )
        error.key = key
        return error

    def check(self, key: VirtualKey) -> None:
        """Raises `KeyRejected` if the key cannot be used, or its account takes no calls."""
        if key.disabled or key.expires_at_ms is not None:
            check_usable(key)
        if self._account(key.account_id).disabled:
            error = KeyRejected(
                f"The account of key '{key.name}' ({key.hint}) is disabled. Ask the relay's "
                "operator to enable it.",
                code="account_disabled",
            )
            error.key = key
            raise error


def check_usable(key: VirtualKey) -> None:
    """Raises `KeyRejected` if the key is disabled or has expired."""
    if key.disabled:
        error = KeyRejected(
            f"Key '{key.name}' ({key.hint}) is disabled. Ask the relay's operator to enable it "
            "or to issue another.",
            code="key_disabled",
        )
    elif key.expires_at_ms is not None and key.expires_at_ms <= time() * 1000:
        error = KeyRejected(
            f"Key '{key.name}' ({key.hint}) has expired. Ask the operator for a new one.",
            code="key_expired",
        )
    else:
        return
    error.key = key
    raise error


def bearer_secret(authorization: bytes | None) -> bytes:
    """The secret in an ``Authorization`` header. Raises `KeyRejected` when there is none."""
    if not authorization:
        raise KeyRejected(
            "You didn't provide an API key. Send it as 'Authorization: Bearer mk-...'; "
            "`merino keys create` issues one.",
            code="missing_api_key",
        )
    scheme, _, secret = authorization.partition(b" ")
    secret = secret.strip()
    if scheme.lower() != b"bearer" or not secret:
        raise KeyRejected(
            "The Authorization header must read 'Bearer mk-...'.", code="invalid_authorization"
        )
    return secret


def alias_for(key: VirtualKey, model: str, aliases: Mapping[str, Alias]) -> Alias:
    """The alias a key asks for. An unknown alias and a forbidden one look the same to the caller,
    so that keys cannot probe for what others may call. Raises `AliasNotAllowed`."""
    alias = aliases.get(model)
    if alias is None or not key.may_call(model):
        may = [name for name in aliases if key.may_call(name)]
        names = ", ".join(may[:8]) + (", ..." if len(may) > 8 else "")
        near = nearest(model, may)
        raise AliasNotAllowed(
            f"The model '{shown(model, 200)}' does not exist or key '{key.name}' may not call it. "
            + (f"Did you mean '{near}'? " if near else "")
            + f"It may call: {names or 'none'}. GET /v1/models lists them.",
            param="model",
            code="model_not_found",
        )
    return alias


def nearest(model: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant. None for long names and long lists: looking takes time."""
    if len(model) > _MEANT_CHARS_MAX:
        return None
    by_small = {name.lower(): name for name in reversed(names[:_MEANT_NAMES_MAX])}
    found = difflib.get_close_matches(model.lower(), by_small, n=1, cutoff=0.75)
    return by_small[found[0]] if found else None


def _why_unknown(secret: bytes) -> str:
    if secret.startswith(ADMIN_KEY_PREFIX.encode()):
        return (
            f"This is an admin key ({ADMIN_KEY_PREFIX}...): it opens /admin/v1 only. "
            f"Calls need a key that starts with {KEY_PREFIX}; `merino keys create` issues one."
        )
    for prefix, kind in _FOREIGN_KEYS:
        if secret.startswith(prefix):
            return (
                f"Invalid API key: this looks like {kind}; this relay's keys start with "
                f"{KEY_PREFIX}. Provider credentials belong in the relay's configuration."
            )
    bare = secret.strip(b"\"'<> ").removeprefix(b"Bearer ")
    if bare != secret and bare.startswith(KEY_PREFIX.encode()):
        return (
            f"Invalid API key: something stands around it. Send 'Authorization: Bearer {KEY_PREFIX}"
            "...' without quotes or brackets, and with 'Bearer' once."
        )
    if not secret.startswith(KEY_PREFIX.encode()):
        return f"Invalid API key: this relay's keys start with {KEY_PREFIX}."
    return (
        "Invalid API key: no key of this relay matches. Check for a missing character, or list "
        "the keys with `merino keys list`."
    )
