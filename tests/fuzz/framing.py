"""A strict, plain reader of HTTP/1.1 answers: what a careful client makes of what the relay wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class Misframed(AssertionError):
    """No client could read this."""


@dataclass
class Answer:
    """`is_whole`: it has its proper end; else the connection ended first."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    is_whole: bool
    closes: bool

    def header(self, name: bytes) -> bytes | None:
        return next((value for field, value in self.headers if field == name), None)


def read_answers(
    data: bytes, methods: list[bytes], *, is_closed: bool, has_heads: bool = False
) -> list[Answer]:
    """Every answer in `data`. `methods` are those of the requests, as far as they are known;
    `has_heads`: HEAD may be among the others, whose answers tell a length and have no body.

    Raises `Misframed`.
    """
    answers: list[Answer] = []
    position = 0
    while position < len(data):
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            raise Misframed(f"a head without an end: {data[position : position + 200]!r}")
        first, *lines = data[position:end].split(b"\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            raise Misframed(f"no status line: {first!r}")
        status = int(found[1])
        headers: list[tuple[bytes, bytes]] = []
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise Misframed(f"no header: {line!r}")
            headers.append((field[1].lower(), field[2]))
        position = end + 4
        if status == 100:
            continue
        names = [name for name, _ in headers]
        if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
            raise Misframed(f"framed twice: {headers}")
        answer = Answer(status, headers, b"", is_whole=True, closes=False)
        answer.closes = answer.header(b"connection") == b"close"
        method = methods[len(answers)] if len(answers) < len(methods) else b""
        length = answer.header(b"content-length")
        follows = data[position : position + 9]
        is_bare = has_heads and follows in (b"", b"HTTP/1.1 ")
        if method == b"HEAD" or is_bare or status in (204, 304):
            pass
        elif length is not None:
            size = int(length)
            answer.body = data[position : position + size]
            answer.is_whole = len(answer.body) == size
            position += size
        elif answer.header(b"transfer-encoding") == b"chunked":
            position = _read_chunks(data, position, answer)
        else:
            answer.body = data[position:]
            answer.is_whole = is_closed
            position = len(data)
        answers.append(answer)
        if answer.closes and position < len(data):
            raise Misframed("more was written after the last answer")
        if not answer.is_whole and not is_closed:
            raise Misframed("an answer has no end, and the connection goes on")
    return answers


def _read_chunks(data: bytes, position: int, answer: Answer) -> int:
    pieces: list[bytes] = []
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            if position < len(data):
                raise Misframed(f"a piece of a chunk's size: {data[position:]!r}")
            answer.is_whole = False
            break
        if _SIZE.fullmatch(data[position:end]) is None:
            raise Misframed(f"no chunk's size: {data[position : end + 2]!r}")
        size = int(data[position:end], 16)
        position = end + 2
        if position + size + 2 > len(data):
            raise Misframed("a chunk was written in part")
        pieces.append(data[position : position + size])
        if data[position + size : position + size + 2] != b"\r\n":
            raise Misframed("a chunk is longer than its size")
        position += size + 2
        if size == 0:
            break
    answer.body = b"".join(pieces)
    return position
