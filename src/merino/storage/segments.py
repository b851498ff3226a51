"""Reading a journal back: segment files, their lines, and what a crash may have left at the end."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from merino.domain.errors import Misconfigured

FORMAT = 1
FORMAT_LINE = b'["merino-journal",%d]' % FORMAT
_CRC_CHARS = 8
_decode = msgspec.json.Decoder().decode


class JournalDamaged(Misconfigured):
    """A journal says something that cannot have been written so."""


def segment_paths(folder: Path) -> list[Path]:
    """Segments, oldest first."""
    return sorted(path for path in folder.glob("*.log") if path.stem.isdigit())


def frame(body: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(body), body)


def read_segments(folder: Path) -> Iterator[list[Any]]:
    """Every record, oldest first. What a crash cut short at the very end is cut off the file.

    Raises `JournalDamaged` for a bad line with good ones after it.
    """
    paths = segment_paths(folder)
    for path in paths:
        data = path.read_bytes()
        end = yield from _read_segment(path, data)
        if end == len(data):
            continue
        if path != paths[-1] or _has_good_line(data, end):
            raise JournalDamaged(
                f"{path} is damaged at byte {end}: the line there does not match its checksum, and "
                "good lines follow. Restore the data folder from a backup; or, giving up what this "
                "segment says, move it away: everything already applied is in the database."
            )
        os.truncate(path, end)


def _read_segment(path: Path, data: bytes) -> Generator[list[Any], None, int]:
    """Yield records up to the first bad line; return its offset."""
    offset = 0
    is_first = True
    while True:
        end = data.find(b"\n", offset)
        if end < 0 or (body := _body(data[offset:end])) is None:
            return offset
        record: list[Any] = _decode(body)
        if is_first:
            _check_format(path, record)
            is_first = False
        else:
            yield record
        offset = end + 1


def _body(line: bytes) -> bytes | None:
    checksum, body = line[:_CRC_CHARS], line[_CRC_CHARS + 1 :]
    return body if checksum == b"%08x" % crc32(body) and line[8:9] == b" " else None


def _has_good_line(data: bytes, offset: int) -> bool:
    following = data[offset:].split(b"\n")[1:]
    return any(_body(line) is not None for line in following)


def _check_format(path: Path, record: list[Any]) -> None:
    if record[:1] != ["merino-journal"]:
        raise JournalDamaged(f"{path} is not a journal of Merino. Move it out of the folder.")
    if record[1] != FORMAT:
        raise Misconfigured(
            f"{path} has journal format {record[1]}; this Merino reads {FORMAT}. Start the version "
            "that wrote it once and stop it properly: that leaves nothing to read."
        )
