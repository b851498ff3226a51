"""Seals what is kept of calls, each account's with a key of its own, made of the folder's secret.
That secret is no part of the database: a copy of the database alone cannot be read.

Answers for idempotency keys are sealed with the caller's own secret. That cannot be done here:
other keys of the account go on from a response, and a background response ends without its caller.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_KEYS_MAX = 10_000


class Sealer:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._keys: dict[str, AESGCM] = {}

    def seal(self, account_id: str, name: str, plain: bytes) -> bytes:
        """`name` is what it is the content of: sealed content of another name does not open."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._key(account_id).encrypt(nonce, plain, name.encode())

    def open(self, account_id: str, name: str, sealed: bytes) -> bytes | None:
        """`None` if it was sealed with another secret, or is damaged."""
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._key(account_id).decrypt(nonce, body, name.encode())
        except (InvalidTag, ValueError):
            return None

    def _key(self, account_id: str) -> AESGCM:
        key = self._keys.get(account_id)
        if key is None:
            if len(self._keys) >= _KEYS_MAX:
                self._keys.clear()
            message = b"merino-responses\n" + account_id.encode()
            key = self._keys[account_id] = AESGCM(hmac.digest(self._secret, message, "sha256"))
        return key
