"""The head of a request: what it may say, what it means, and those that are known by heart."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from merino.wire.exchange import Headers

_NO_WEBSOCKET = "This server does not upgrade connections to WebSocket; send the request as it is."
_RESPONSES = b"/v1/responses"
_NO_TUNNEL = "This server is no proxy: CONNECT is not served."
HEAD_END = b"\r\n\r\n"
KNOWN_HEAD_BYTES_MAX = 4096
_KNOWN_HEADS_MAX = 1024
_LENGTH_DIGITS_MAX = 10
_LINE_BREAK = re.compile(rb"[\r\n]")
_HOST_WRONG = "The Host header must be given once."
_LENGTH_WRONG = "Content-Length must be given once, as a number."
_CODING_WRONG = "Transfer-Encoding must be 'chunked', given once."
_ONCE = {
    b"host": _HOST_WRONG,
    b"content-length": _LENGTH_WRONG,
    b"transfer-encoding": _CODING_WRONG,
    b"authorization": "Authorization must be given once.",
    b"idempotency-key": "Idempotency-Key must be given once.",
}
_VERSIONS = ("1.1", "1.0")


class Refused(Exception):
    """The request is not one we take."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Head:
    """What the head of a request says, but for the length of its body."""

    __slots__ = ("header", "headers", "is_http_1_0", "keeps_alive", "method", "notes", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        fields: dict[bytes, bytes],
        *,
        is_http_1_0: bool,
        keeps_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.header = fields.get
        self.notes: Any = None
        self.is_http_1_0 = is_http_1_0
        self.keeps_alive = keeps_alive

    def is_written(self, written: bytes) -> bool:
        """Whether this is the head that `written` says, in the plain form nearly all are sent in:
        request line, one line a header, no line end after the last."""
        first, *lines = written.split(b"\r\n")
        if first != b"%b %b HTTP/1.1" % (self.method, self.target) or b"\n" in first:
            return False
        said: Headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or b"\n" in line or b"\r" in line:
                return False
            said.append((name.lower(), value.strip(b" \t")))
        return said == self.headers


class Framing(NamedTuple):
    """How a request's body is delimited. `length` in bytes, if the head tells."""

    length: int | None
    is_chunked: bool
    expects_continue: bool


def framing_of(
    url: bytes, headers: Headers, fields: dict[bytes, bytes], *, http_version: str
) -> Framing:
    """Checks a head, and says how its body is delimited. `fields` has the first value of each
    header. Raises `Refused`."""
    if len(fields) != len(headers):
        _check_repeated(headers)
    length, is_chunked, expects_continue = None, False, False
    if (given := fields.get(b"content-length")) is not None:
        if not given.isdigit() or len(given) > 18:
            raise Refused(400, _LENGTH_WRONG)
        length = int(given)
    if (coding := fields.get(b"transfer-encoding")) is not None:
        if coding.lower() != b"chunked":
            raise Refused(400, _CODING_WRONG)
        if length is not None:
            raise Refused(400, "Content-Length and Transfer-Encoding exclude each other.")
        is_chunked = True
    if (expected := fields.get(b"expect")) is not None:
        if expected.lower() != b"100-continue":
            raise Refused(417, "Unknown expectation.")
        expects_continue = True
    if _LINE_BREAK.search(b"".join(fields.values())):
        raise Refused(400, "A header's value must be on one line.")
    if b"host" not in fields and http_version == "1.1":
        raise Refused(400, _HOST_WRONG)
    if http_version not in _VERSIONS:
        raise Refused(400, "The request's first line must end with HTTP/1.1.")
    if url[:1] != b"/" and url != b"*":
        raise Refused(400, "The request's target must be a path.")
    return Framing(length, is_chunked, expects_continue)


def check_upgrade(method: bytes, target: bytes, headers: Headers) -> bool:
    """Whether a WebSocket is asked for where there are some. Which other offers of another protocol
    are passed over, as HTTP allows: all that leave the request a request (`h2c`, which Java's
    client offers by default). Raises `Refused` for the others."""
    if method == b"CONNECT":
        raise Refused(400, _NO_TUNNEL)
    is_socket = False
    for name, value in headers:
        if name == b"upgrade" and b"websocket" in value.lower():
            if target.partition(b"?")[0].rstrip(b"/") != _RESPONSES:
                raise Refused(400, _NO_WEBSOCKET)
            is_socket = True
        if _LINE_BREAK.search(value):
            raise Refused(400, "A header's value must be on one line.")
    return is_socket


def without_upgrade(method: bytes, target: bytes, headers: Headers, version: str) -> bytes:
    """The head of the same request without its offer of another protocol."""
    lines = [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version.encode(), b"".join(lines))


def _check_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name, message in _ONCE.items():
        if names.count(name) > 1:
            raise Refused(400, message)
    # A repeated name hides a value from the checks that follow.
    if _LINE_BREAK.search(b"".join([value for _, value in headers])):
        raise Refused(400, "A header's value must be on one line.")


def head_bytes(url: bytes, headers: Headers) -> int:
    """The size of a head, to within its first line's fixed parts."""
    return len(url) + sum([len(name) + len(value) + 4 for name, value in headers])


class KnownHeads:
    """Heads that the parser and all checks have let pass, without the number in their
    `content-length`: the one thing in which a client's requests differ. Such a head says the same
    again, so it is not read again."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def find(self, data: bytes, head_end: int) -> tuple[Head, int] | None:
        """The head at the beginning of `data`, if it is known, and the length of its body."""
        at, stop = _length_digits(data, head_end)
        head = self._heads.get(data[:at] + data[stop:head_end])
        if head is None or not 0 < stop - at <= _LENGTH_DIGITS_MAX:
            return None
        digits = data[at:stop]
        return (head, int(digits)) if digits.isdigit() else None

    def learn(self, data: bytes, head_end: int, head: Head) -> None:
        """Know `head` again, if it is what `data[:head_end]` says.

        Whether it is, is read from the bytes themselves: whoever came to have this head must not be
        taken for whoever sent those bytes (several requests may have come in one read).
        """
        if not head.is_written(data[:head_end]):
            return
        at, stop = _length_digits(data, head_end)
        line_at = data.rfind(b"\r\n", 0, at) + 2
        if data[line_at:at].lower() != b"content-length: " or not data[at:stop].isdigit():
            return  # another header's value looks like it
        if len(self._heads) >= _KNOWN_HEADS_MAX:
            self._heads.clear()
        self._heads[data[:at] + data[stop:head_end]] = head


def _length_digits(data: bytes, head_end: int) -> tuple[int, int]:
    """Where the number of a `content-length` begins and ends, if there is one."""
    at = data.find(b"-Length: ", 0, head_end) + 9
    if at < 9:
        at = data.find(b"-length: ", 0, head_end) + 9
    return at, data.find(b"\r", at)
