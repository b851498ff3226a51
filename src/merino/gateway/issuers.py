"""Who made the sealed thinking that a call brings along: only they can read it.

Such a call goes to its maker first. Elsewhere it goes without that thinking; and if an upstream
cannot read it after all, it is asked once more without it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamRefused
from merino.wire.request import ModelRequest
from merino.wire.sealed import (
    LABELLED,
    SEALED_IN_MESSAGES,
    ends_in_turn,
    marks_in_messages,
    marks_of,
    messages_without_labelled,
    messages_without_sealed,
    without_sealed,
)

REMEMBERED_MAX = 50_000
TOLD = "input.encrypted_content removed"
TOLD_MESSAGES = "messages: thinking removed"
TOLD_FOREIGN = "messages: another maker's thinking removed"
_REFUSED = re.compile(
    r"signature.{0,80}thinking|thinking.{0,40}block"
    r"|encrypted[_ ]content|encrypted[_ ]reasoning|reasoning[_ ]item.{0,80}(?:decrypt|verif)"
    r"|item (?:with id )?'?rs_[^ ]{1,200} not found",
    re.IGNORECASE,
)
"""Vendors have a code for it, `invalid_encrypted_content`; servers between drop it."""


class Issuers:
    """The deployments that made the newest sealed items, by account and mark."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def note(self, account_id: str, marks: Iterable[bytes], deployment: str) -> None:
        known = self._known
        for mark in marks:
            known.pop((account_id, mark), None)
            known[account_id, mark] = deployment
        while len(known) > REMEMBERED_MAX:
            known.popitem(last=False)

    def find(self, account_id: str, marks: Sequence[bytes]) -> str | None:
        """The deployment that made the last of these that is known."""
        for mark in reversed(marks):
            known = self._known.get((account_id, mark))
            if known is not None:
                return known
        return None


def is_same_home(one: Deployment, other: Deployment) -> bool:
    """Whether what one made can be read by the other."""
    return (one.provider, one.base_url, one.credential) == (
        other.provider,
        other.base_url,
        other.credential,
    )


def sealed_by_whom(request: ModelRequest) -> list[bytes]:
    """The marks of all sealed thinking that a request brings along."""
    if request.endpoint.name == "messages":
        return marks_in_messages(bytes(request.fields.get("messages", b"")))
    return marks_of(bytes(request.fields.get("input", b"")))


def is_about_sealed(error: UpstreamRefused) -> bool:
    """Whether an upstream refused thinking that it cannot read."""
    if error.status == 429 or error.status < 400:
        return False
    said = f"{error.code or ''} {error.message} {error.body[:4096].decode('utf-8', 'replace')}"
    return _REFUSED.search(said) is not None


def for_one_vendor(request: ModelRequest) -> ModelRequest:
    """The request as its own dialect's vendor may get it: without the thinking that came out of
    other dialects, which it would take for forged."""
    given = request.fields.get("messages")
    if given is None or request.endpoint.name != "messages" or LABELLED not in bytes(given):
        return request
    kept = messages_without_labelled(bytes(given))
    return request if kept is None else _with_messages(request, kept, TOLD_FOREIGN)


def unsealed(request: ModelRequest) -> ModelRequest | None:
    """A copy of a request without the thinking that only its maker can read; `None` if it has none
    that it can do without."""
    if not request.has_sealed:
        return None
    if request.endpoint.name == "messages":
        kept = messages_without_sealed(bytes(request.fields.get("messages", b"")))
        return None if kept is None else _with_messages(request, kept, TOLD_MESSAGES)
    given = request.fields.get("input")
    if given is None:
        return None
    kept = without_sealed(bytes(given))
    if kept is None:
        return None
    copied = request.copied()
    copied.change("input", msgspec.Raw(kept))
    copied.has_sealed = False
    copied.tell(TOLD)
    return copied


def _with_messages(request: ModelRequest, messages: bytes, told: str) -> ModelRequest:
    """A model that is to think takes no turn whose thinking is missing: in the middle of one it is
    told not to."""
    copied = request.copied()
    copied.change("messages", msgspec.Raw(messages))
    copied.has_sealed = SEALED_IN_MESSAGES(messages) is not None
    copied.tell(told)
    thinking = bytes(request.fields.get("thinking", b""))
    if thinking and b'"disabled"' not in thinking and ends_in_turn(messages):
        copied.change("thinking", msgspec.Raw(b'{"type":"disabled"}'))
        copied.tell("thinking disabled (earlier thinking is missing)")
    return copied
