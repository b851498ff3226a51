"""One HTTP request and its answer, as the fast lane sees them: the seam between bytes and calls.

`transport` implements `Exchange` and calls a `Front`; `api` implements `Front` and answers through
the `Exchange`. Neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

Headers = list[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""


def render_headers(headers: Headers) -> bytes:
    """Header lines, each with its line end. Raises `ValueError` for a value that could not be one
    line (a fault of ours: nothing a caller sends is echoed into a header)."""
    rendered = b"".join([b"%b: %b\r\n" % header for header in headers])
    if rendered.count(b"\n") != len(headers) or b"\x00" in rendered:
        raise ValueError("a header value contains a line break")
    return rendered


class Cancellable(Protocol):
    """What a call runs in: a `running.Runner`, or an `asyncio.Task`."""

    def cancel(self) -> bool: ...

    def uncancel(self) -> int: ...

    def set_name(self, value: str, /) -> None: ...


class RequestHead(Protocol):
    """The head of a request. Clients send the same head over and over: it is then the same object,
    and still has the `notes` that the front made."""

    notes: Any

    def header(self, name: bytes, /) -> bytes | None:
        """First value of a header, by lower-case name."""
        ...


class Exchange(Protocol):
    """A received request and the means to answer it, once. Every method is synchronous: bytes go to
    the socket at once, and `is_writable` says whether the client keeps up."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes:
        """Path and query exactly as received."""
        ...

    @property
    def head(self) -> RequestHead: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def body(self) -> bytes: ...
    @property
    def address(self) -> str:
        """Where the connection comes from; empty if it is not known."""
        ...

    @property
    def received_at(self) -> float:
        """Reading of `time.perf_counter()` when the last byte of the request arrived."""
        ...

    def header(self, name: bytes, /) -> bytes | None:
        """First value of a header, by lower-case name."""
        ...

    @property
    def task(self) -> Cancellable | None:
        """The task that handles this exchange, once it had to wait for something."""
        ...

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer with its Content-Length. `head` is its other header lines, as
        `render_headers` makes them; `date` and `connection` are added."""
        ...

    def start(self, status: int, head: bytes, data: bytes = b"") -> None:
        """Send the head of a streamed answer (chunked; for HTTP/1.0 delimited by closing), and its
        first piece in the same write."""
        ...

    def write(self, data: bytes, /) -> None:
        """Send a piece of a streamed answer."""
        ...

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece of a streamed answer, and end it cleanly."""
        ...

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for complete."""
        ...

    @property
    def has_started(self) -> bool:
        """The head of an answer was sent."""
        ...

    @property
    def is_writable(self) -> bool:
        """False while the client's socket buffer is above its high-water mark."""
        ...

    @property
    def is_disconnected(self) -> bool:
        """The client has left; nothing that is written arrives."""
        ...

    on_writable: Callable[[bool], None] | None
    """Called with the new value whenever `is_writable` changes."""

    on_disconnect: Callable[[], None] | None
    """Called once if the client leaves before the answer is finished."""


class Socket(Protocol):
    """A connection that was switched to WebSocket, as who serves it sees it. All is synchronous, as
    with an exchange."""

    @property
    def is_writable(self) -> bool:
        """False while the client's socket buffer is above its high-water mark."""
        ...

    def send(self, text: bytes, /) -> None:
        """Send a text message. Nothing arrives any more once the connection is closed."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection, once all that was sent is out."""
        ...

    def run(
        self,
        work: Coroutine[Any, Any, None],
        exchange: Any,
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        """Run what answers a message; `exchange.task` is what it runs in."""
        ...

    def later(self, after_s: float, then: Callable[[], None]) -> Callable[[], None]:
        """Call back after some time; what is returned calls it off."""
        ...


class Session(Protocol):
    """What serves a socket. It is told what happens there."""

    @property
    def message_bytes_max(self) -> int: ...

    def received(self, text: bytes) -> None:
        """A whole text message has come."""
        ...

    def writable(self, is_writable: bool) -> None: ...

    def lost(self) -> None:
        """The client has left."""
        ...

    def drain(self) -> None:
        """The server stops: close once the running call is answered."""
        ...


OpenSession = Callable[[Socket], Session]


class Front(Protocol):
    """What the fast lane serves."""

    def connect(self, exchange: Exchange) -> OpenSession | None:
        """A WebSocket is asked for: what serves it. `None` if it is not to be had; then the
        exchange was answered."""
        ...

    def takes(self, target: bytes) -> bool:
        """Whether the fast lane serves this path (otherwise the ASGI app gets it)."""
        ...

    def body_bytes_max(self, exchange: Exchange) -> int:
        """How large this request's body may be; asked once its head is complete."""
        ...

    def owner(self, exchange: Exchange) -> str | None:
        """Whose request this is: an account, or `None` if its key is not good."""
        ...

    @property
    def body_bytes_max_of_stranger(self) -> int:
        """The least that `body_bytes_max` is for any caller."""
        ...

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """Answer the exchange at once, or return what answers it. That runs in a
        `running.Runner`; it is cancelled only when the server stops."""
        ...

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """The task that `handle` returned has ended with an error."""
        ...

    def malformed(self, status: int, message: str) -> tuple[bytes, bytes]:
        """Header lines and body of the answer to a request that is not proper HTTP."""
        ...
