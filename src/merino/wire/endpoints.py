"""What an endpoint is: how its bodies and its answers are read, and what its clients expect.

A new endpoint is a file that fills an `Endpoint`, and a line in `served.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from merino.domain.usage import Units, Usage
from merino.wire.splitting import Event, EventKind
from merino.wire.sse import DONE, error_event
from merino.wire.usage import ChatResult

LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
"""The limits of a chat: upstreams obey one of them, both or none, refuse one, or refuse both at
once."""


class EventReader(Protocol):
    """Reads a stream of events as they go by; sizes as in `produced.Sizes`."""

    usage: Usage | None
    has_content: bool
    finish_reason: str | None
    service_tier: str | None
    failure: dict[str, Any] | None
    """The object that says why the stream failed."""
    id: str | None
    """What the upstream calls the answer, where it matters."""
    ending: bytes
    """The upstream's own event that ended a failed stream as its dialect wants it; empty if it sent
    none."""
    final: bytes
    """The whole answer, if the stream ends with it."""

    @property
    def sealed(self) -> Sequence[bytes]:
        """The marks of what of it only its maker can read."""
        ...

    @property
    def units(self) -> Units:
        """What a vendor's tools did, as far as it can be seen."""
        ...

    @property
    def output_bytes(self) -> int: ...
    @property
    def reasoning_bytes(self) -> int: ...
    @property
    def wide_bytes(self) -> int: ...
    @property
    def is_complete(self) -> bool:
        """Nothing of the answer is missing, though the stream may go on."""
        ...

    @property
    def has_finished(self) -> bool:
        """The model has ended its answer."""
        ...

    @property
    def is_at_done(self) -> bool:
        """All of the stream's last event is here, except its line ends."""
        ...

    def feed_one(self, data: bytes) -> EventKind | None:
        """The kind of the event, if this is exactly one; otherwise `None`, and nothing was
        taken."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises `ValueError` for one that is too long."""
        ...

    def finish(self) -> list[Event]:
        """The event left at the end of the stream."""
        ...


def _as_it_is(status: int, body: bytes, _call_id: str) -> tuple[int, bytes]:
    return status, body


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """`name` is its path, ours below `/v1` and the upstream's below the base URL.

    `parse` makes a `ModelRequest` of a body, or raises `InvalidCall`; `read_answer` reads an answer
    that is whole, or raises `ValueError`; `new_reader` makes the reader of a stream, with the most
    bytes that one event may have. `limit_name` is the field that bounds the output of a call that
    has no limit of its own, `limit_min` the least that it may be. `last_event` ends a stream whose
    upstream did not send its own, `error_event` makes events of an error's body, knowing the reader
    of what the caller got so far; `error_event_ends` if they are a proper end of the stream.
    `reports_usage`: its streams tell what they used without being asked to. `answers_are_named`:
    later calls may name them. `is_batched`: such calls may be the items of a batch.
    `error_answer` makes status and body of the answer to a call that failed, of our own and the
    call's id. `passes` are beginnings of the caller's headers that go along to an upstream of the
    same dialect, with the query; `id_header` is under which name clients look for the call's id.
    """

    name: str
    parse: Callable[[bytes], Any]
    read_answer: Callable[[bytes], ChatResult]
    new_reader: Callable[[int], EventReader] | None = None
    has_output: bool = True
    limit_name: str = LIMIT_NAMES[0]
    limit_min: int = 1
    last_event: bytes = DONE
    error_event: Callable[[bytes, EventReader | None], bytes] = error_event
    error_event_ends: bool = False
    answers_are_named: bool = False
    reports_usage: bool = False
    is_batched: bool = True
    error_answer: Callable[[int, bytes, str], tuple[int, bytes]] = _as_it_is
    passes: tuple[bytes, ...] = ()
    id_header: bytes = b""
