"""What of a call lies with whoever keeps responses, and binds it to them."""

from __future__ import annotations

import msgspec


class ResponseState(msgspec.Struct, frozen=True, gc=False):
    """What of a call lies with an upstream, and binds it to a deployment and its credential.

    `has_references`: the input names items by their ids; `has_sealed`: it brings reasoning that
    only its issuer can read."""

    previous_response_id: str | None = None
    conversation: str | None = None
    has_references: bool = False
    has_sealed: bool = False
    background: bool = False
    stored: bool = True


NO_STATE = ResponseState()
