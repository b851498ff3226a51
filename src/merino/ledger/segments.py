"""Reads a journal back: segment files, their lines, and what follows the last good line.

A segment's first line names the columns of the rows in it, so that a version whose call records
have others can read it. Nothing here changes a file; `damage.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from merino.domain.errors import Misconfigured
from merino.ledger.lines import CALL_COLUMNS, UNNAMED_COLUMNS, row_reader

FORMAT = 1
FORMAT_LINE = msgspec.json.encode(("merino-journal", FORMAT, CALL_COLUMNS))
_CRC_CHARS = 8
_decode = msgspec.json.Decoder().decode
_LINE_BEGINS = re.compile(rb"[0-9a-f]{0,8}|[0-9a-f]{8} (\[[^\0\n]*)?")
# What a line is about; found even if its checksum is wrong.
_ABOUT = re.compile(
    rb'[^\[]{0,16}\[(\d{1,18}),"(?:hold|call|late)",(?:\d{1,18},\[)?"([\w.:-]{1,80})"'
)


class JournalDamaged(Misconfigured):
    """A journal holds something that the relay cannot have written."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What follows the last good line of a segment. `is_torn`: the beginning of a line that a crash
    cut short; it was never reported as durable. Otherwise somebody or something has changed the
    file."""

    at_byte: int
    size_bytes: int
    is_torn: bool
    lines: int
    zeros: int
    call_ids: tuple[str, ...]
    last_seq: int | None
    """What its lines say, if all of them can still be read."""


def segment_paths(folder: Path) -> list[Path]:
    """Segments, oldest first."""
    return sorted(path for path in folder.glob("*.log") if path.stem.isdigit())


def frame(body: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(body), body)


def read_segment(path: Path, data: bytes) -> Generator[list[Any], None, int]:
    """Yield records up to the first bad line, their rows as this version has them; return where
    that line begins."""
    offset = 0
    is_first = True
    row_of = row_reader(UNNAMED_COLUMNS)
    while True:
        end = data.find(b"\n", offset)
        if end < 0 or (body := _body(data[offset:end])) is None:
            return offset
        record: list[Any] = _decode(body)
        if is_first:
            _check_format(path, record)
            if len(record) > 2:
                row_of = row_reader(record[2])
            is_first = False
        else:
            if record[1] != "hold":
                record[3] = row_of(record[3])
            yield record
        offset = end + 1


def rest_of(data: bytes, at_byte: int) -> Rest:
    """Look at the bytes from `at_byte` to the end of a segment."""
    rest = data[at_byte:]
    lines = [line for line in rest.split(b"\n") if line.strip(b"\0")]
    about = [_ABOUT.match(line) for line in lines]
    return Rest(
        at_byte,
        len(rest),
        _LINE_BEGINS.fullmatch(rest) is not None and _body(rest[:-1]) is None,
        len(lines),
        rest.count(b"\0"),
        tuple(dict.fromkeys(each[2].decode() for each in about if each)),
        int(about[-1][1]) if about and all(about) and about[-1] and b"\0" not in rest else None,
    )


def has_good_line(data: bytes, at_byte: int) -> bool:
    """Whether good lines follow the one that begins there."""
    following = data[at_byte:].split(b"\n")[1:]
    return any(_body(line) is not None for line in following)


def _body(line: bytes) -> bytes | None:
    checksum, body = line[:_CRC_CHARS], line[_CRC_CHARS + 1 :]
    return body if checksum == b"%08x" % crc32(body) and line[8:9] == b" " else None


def _check_format(path: Path, record: Sequence[Any]) -> None:
    if list(record[:1]) != ["merino-journal"]:
        raise JournalDamaged(f"{path} is not a journal of Merino. Move it out of the folder.")
    if record[1] != FORMAT:
        raise Misconfigured(
            f"{path} has journal format {record[1]}; this Merino reads {FORMAT}. Start the version "
            "that wrote it once and stop it properly: that leaves nothing to read."
        )
