"""How what the relay sends to others is signed, so that they know it is the relay's."""

from __future__ import annotations

import hashlib
import hmac

SIGNATURE_HEADER = "merino-signature"


def signature(body: bytes, secret: str, at_s: int) -> str:
    """``t=SECONDS,v1=HEX``: HMAC-SHA256 of ``SECONDS.BODY``, as Stripe signs."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={digest.hexdigest()}"
