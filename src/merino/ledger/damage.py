"""Damage found at a journal's end: a copy of the segment is kept beside it, with a note that says
what may be lost, until somebody removes them.

The copy is on the disk before anything is cut off, so a crash in between loses nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from merino.ledger.segments import Rest
from merino.sqlite.data_folder import FILE_MODE, sync_folder

COPY = ".damaged"
NOTE = ".damaged.txt"
_CALLS_SHOWN = 20


def damage_notes(folder: Path) -> list[str]:
    """The notes in a journal's folder, oldest first."""
    notes: list[str] = []
    for path in sorted(folder.glob(f"*{NOTE}")):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        notes.append(text or f"{path} says nothing: it was damaged, too.")
    return notes


def keep_damaged(path: Path, data: bytes, rest: Rest, applied_seq: int) -> str:
    """Copy a damaged segment, note what may be lost if anything may, and cut the damage off.
    Returns what was found, as a sentence. Repeating it after a crash in the middle makes nothing
    twice."""
    copy = _name_for_copy(path, data)
    lost = "" if _is_all_applied(rest, applied_seq) else _lost(rest)
    told = (
        f"{path} was damaged at byte {rest.at_byte}: {_what(rest)}. "
        + (lost or "All that it says is in the database already, so nothing is lost.")
        + f" The segment as it was is kept as {copy.name}."
    )
    _write(copy, data)
    if lost:
        way_out = (
            f"Compare your upstreams' records for what was not booked, then move {copy.name} and "
            f"{copy.name}.txt away: until then this is told."
        )
        _write(copy.with_name(f"{copy.name}.txt"), f"{told} {way_out}\n".encode())
    cut_off(path, rest.at_byte)
    return told


def cut_off(path: Path, at_byte: int) -> None:
    """Remove everything after the last good line, for good."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, at_byte)
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_all_applied(rest: Rest, applied_seq: int) -> bool:
    return rest.last_seq is not None and rest.last_seq <= applied_seq


def _what(rest: Rest) -> str:
    if rest.zeros == rest.size_bytes:
        return f"the last {rest.size_bytes} bytes are zeros"
    lines = "1 line does" if rest.lines == 1 else f"{rest.lines} lines do"
    zeros = f", {rest.zeros} of them zeros" if rest.zeros else ""
    return f"{lines} not match their checksum, {rest.size_bytes} bytes{zeros}, up to its end"


def _lost(rest: Rest) -> str:
    ids = rest.call_ids
    if not ids:
        who = "Which calls that concerns cannot be read any more"
    else:
        more = f" and {len(ids) - _CALLS_SHOWN} more" if len(ids) > _CALLS_SHOWN else ""
        calls = "1 call" if len(ids) == 1 else f"{len(ids)} calls"
        who = f"It concerns {calls}: {', '.join(ids[:_CALLS_SHOWN])}{more}"
        who += "; of others nothing can be read" if rest.zeros else ""
    return (
        f"{who}. What calls cost that is only said there is not booked: their accounts pay "
        "nothing for them."
    )


def _name_for_copy(path: Path, data: bytes) -> Path:
    """The name of the existing copy, or a free name."""
    number = 1
    while True:
        copy = path.with_name(
            f"{path.name}{COPY}" if number == 1 else f"{path.name}.{number}{COPY}"
        )
        if not copy.exists() or copy.read_bytes() == data:
            return copy
        number += 1


def _write(path: Path, data: bytes) -> None:
    """Write completely and onto the disk, or not at all."""
    part = path.with_name(f"{path.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    part.rename(path)
    sync_folder(path.parent)
