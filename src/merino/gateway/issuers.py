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
from merino.wire.sealed import without_sealed

REMEMBERED_MAX = 50_000
TOLD = "input.encrypted_content removed"
_REFUSED = re.compile(
    r"encrypted[_ ]content|encrypted[_ ]reasoning|reasoning[_ ]item.{0,80}(?:decrypt|verif)"
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


def is_about_sealed(error: UpstreamRefused) -> bool:
    """Whether an upstream refused thinking that it cannot read."""
    if error.status == 429 or error.status < 400:
        return False
    said = f"{error.code or ''} {error.message} {error.body[:4096].decode('utf-8', 'replace')}"
    return _REFUSED.search(said) is not None


def unsealed(request: ModelRequest) -> ModelRequest | None:
    """A copy of a request without the thinking that only its maker can read; `None` if it has none
    that it can do without."""
    given = request.fields.get("input")
    if not request.has_sealed or given is None:
        return None
    kept = without_sealed(bytes(given))
    if kept is None:
        return None
    copied = request.copied()
    copied.change("input", msgspec.Raw(kept))
    copied.has_sealed = False
    copied.tell(TOLD)
    return copied
