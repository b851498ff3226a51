"""HTTP/1.1 rules that both sides of the relay share."""

from __future__ import annotations

import re
from http import HTTPStatus

HEADER_VALUE_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters: with them a value could end its line and begin another."""


def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase.encode()
    except ValueError:
        phrase = b"Unknown"
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)


class _StatusLines(dict[int, bytes]):
    """Made beforehand for every status of HTTP; any other one is made when it is asked for."""

    def __missing__(self, status: int) -> bytes:
        return status_line(status)


STATUS_LINES = _StatusLines((status, status_line(status)) for status in range(100, 600))
