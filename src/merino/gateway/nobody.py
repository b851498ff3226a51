"""A reply that nobody reads."""

from __future__ import annotations

from collections.abc import Callable

from merino.domain.errors import MerinoError
from merino.gateway.call import Call, FirstAnswer


class Nobody:
    """`gateway.ports.Reply` of a call whose caller is gone."""

    task = None
    has_begun = True
    is_writable = True
    is_disconnected = True

    def watch(
        self, on_disconnect: Callable[[], None], on_writable: Callable[[bool], None] | None
    ) -> None: ...
    def answer(self, call: Call, content_type: bytes, body: bytes) -> None: ...
    def repeat(self, call: Call, first: FirstAnswer) -> None: ...
    def begin(self, call: Call, data: bytes = b"") -> None: ...
    def send(self, data: bytes, /) -> None: ...
    def end(self, call: Call, last: bytes) -> None: ...
    def fail(self, call: Call, error: MerinoError) -> None: ...


NOBODY = Nobody()
