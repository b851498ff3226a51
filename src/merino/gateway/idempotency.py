"""One outcome per idempotency key: a repeat gets the first answer and no second bill.

The kept answer is sealed with a key derived from the caller's own secret and idempotency key. The
relay stores neither, so the database alone does not suffice to read it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from time import time_ns

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from merino.domain.errors import Conflict, InvalidCall
from merino.gateway.call import Call, FirstAnswer
from merino.gateway.ports import Ledger, Replay

KEY_CHARS_MAX = 255
_RUNNING_RETRY_AFTER_S = 1.0
_NONCE_BYTES = 12


class Idempotency:
    """Which keyed calls run in this process, and what the finished ones answered."""

    def __init__(self, ledger: Ledger, answer_bytes_max: int = 4 * 1024 * 1024) -> None:
        self._ledger = ledger
        self._running: dict[bytes, bytes] = {}
        self._answer_bytes_max = answer_bytes_max

    def configure(self, answer_bytes_max: int) -> None:
        self._answer_bytes_max = answer_bytes_max

    async def begin(self, call: Call) -> FirstAnswer | None:
        """The first outcome if there is one; else mark the key as running, to be `end`ed.

        Raises `Conflict` (409) while the first call runs, `Conflict` with code
        `idempotency_key_reused` (422) when the body differs from the first one's.
        """
        replay_id, body_hash = _ids(call)
        # A repeat that arrives during the look-up finds it running.
        running = self._running.get(replay_id)
        if running is None:
            self._running[replay_id] = body_hash
        try:
            kept = await self._ledger.replay(replay_id)
            if kept is None and running is None:
                return None
        except BaseException:
            if running is None:
                self.end(call)
            raise
        if running is None:
            self.end(call)
        known_hash = kept.body_hash if kept else running
        assert known_hash is not None
        if not hmac.compare_digest(known_hash, body_hash):
            raise Conflict(
                "This Idempotency-Key was used for a different request body. Use a new key for a "
                "new request.",
                code="idempotency_key_reused",
                param="Idempotency-Key",
            )
        if kept is None:
            raise Conflict(
                "The first request with this Idempotency-Key is still running.",
                code="idempotency_key_in_use",
                param="Idempotency-Key",
                retry_after_s=_RUNNING_RETRY_AFTER_S,
            )
        return FirstAnswer(
            kept.call_id,
            kept.status,
            kept.content_type,
            _open(call, kept.body),
            kept.charged_nanos,
        )

    def end(self, call: Call) -> None:
        """The call no longer runs. Its settlement, if any, kept its answer."""
        self._running.pop(_ids(call)[0], None)

    def seal(self, call: Call, status: int, content_type: str, body: bytes) -> Replay | None:
        """What the settlement is to keep; `None` if the answer is larger than may be kept."""
        if len(body) > self._answer_bytes_max:
            return None
        replay_id, body_hash = _ids(call)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(_sealing_key(call)).encrypt(nonce, body, replay_id)
        return Replay(
            id=replay_id,
            body_hash=body_hash,
            call_id=call.id,
            status=status,
            content_type=content_type,
            body=sealed,
            at_ms=time_ns() // 1_000_000,
            charged_nanos=None if call.record is None else call.record.charged_nanos,
        )


def check_idempotency_key(value: str) -> str:
    """Raises `InvalidCall` unless it is 1 to 255 printable ASCII characters."""
    if not 0 < len(value) <= KEY_CHARS_MAX or not value.isascii() or not value.isprintable():
        raise InvalidCall(
            f"The Idempotency-Key header must be 1 to {KEY_CHARS_MAX} printable ASCII characters.",
            param="Idempotency-Key",
        )
    return value


def _ids(call: Call) -> tuple[bytes, bytes]:
    # The endpoint is part of the body's identity: the same text sent elsewhere is another request.
    body_hash = hashlib.sha256(call.request.endpoint.name.encode() + b"\n" + call.body).digest()
    return _derive(call, b"id"), body_hash


def _sealing_key(call: Call) -> bytes:
    return _derive(call, b"seal")


def _derive(call: Call, purpose: bytes) -> bytes:
    assert call.idempotency_key is not None
    message = b"\n".join(
        (b"merino-replay", purpose, call.key.account_id.encode(), call.idempotency_key.encode())
    )
    return hmac.digest(call.secret, message, "sha256")


def _open(call: Call, sealed: bytes) -> bytes:
    nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    return AESGCM(_sealing_key(call)).decrypt(nonce, body, _derive(call, b"id"))
