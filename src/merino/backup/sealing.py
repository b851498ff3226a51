"""How pieces of a backup are written: compressed, with a checksum; with a key, encrypted.

The key is made from a file's content. Names of blocks are made with it, too: without it, nobody can
tell whether a backup has a content that they know."""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from merino.domain.errors import Misconfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES_MIN = 32
_NONCE_BYTES = 12
_DIGEST_BYTES = 16
_PLAIN, _SEALED = b"p", b"s"
_LEVEL = 1
"""SQLite's pages shrink to a quarter with this already; more costs ten times the time."""


class Damaged(Misconfigured):
    """A piece of a backup is not what was written, or was written with another key."""


def read_key_file(path: Path) -> bytes:
    """Raises `Misconfigured` if it is too short to be a secret."""
    content = path.read_bytes().strip()
    if len(content) < KEY_BYTES_MIN:
        raise Misconfigured(
            f"{path} has {len(content)} bytes; a key needs {KEY_BYTES_MIN} or more. Make one with: "
            f"openssl rand -hex 32 > {path}"
        )
    return content


class Sealer:
    """Without a secret, contents are only checked; whoever can read the folder reads them."""

    def __init__(self, secret: bytes | None) -> None:
        self.is_encrypting = secret is not None
        self._cipher: AESGCM | None = None
        self._naming = b"merino-backup"
        if secret is not None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(_derived(secret, b"contents"))
            self._naming = _derived(secret, b"names")

    def name(self, content: bytes) -> str:
        """The same for the same content, and for no other."""
        return hmac.digest(self._naming, content, "sha256").hex()[:40]

    def seal(self, content: bytes) -> bytes:
        packed = zlib.compress(content, _LEVEL)
        if self._cipher is None:
            return _PLAIN + hashlib.sha256(packed).digest()[:_DIGEST_BYTES] + packed
        nonce = os.urandom(_NONCE_BYTES)
        return _SEALED + nonce + self._cipher.encrypt(nonce, packed, None)

    def open(self, piece: bytes, what: str) -> bytes:
        """Raises `Damaged`."""
        kind, rest = piece[:1], piece[1:]
        if kind == _PLAIN and self._cipher is None:
            packed = rest[_DIGEST_BYTES:]
            if hashlib.sha256(packed).digest()[:_DIGEST_BYTES] == rest[:_DIGEST_BYTES]:
                return zlib.decompress(packed)
        elif kind == _SEALED and self._cipher is not None:
            from cryptography.exceptions import InvalidTag

            try:
                opened = self._cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], None)
            except (InvalidTag, ValueError):
                raise Damaged(f"{what} is damaged, or sealed with another key file") from None
            return zlib.decompress(opened)
        raise Damaged(f"{what} is damaged: its checksum does not match")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    # No salt: losing it would be losing all, and the secret is no password.
    return hmac.digest(secret, b"merino-backup " + purpose, "sha256")
