"""Puts calls from a journal behind those of a restored folder, which has not been opened yet.

The folder's own start then books them, as after a crash. What operators changed is not in journals:
calls of accounts and keys that the folder does not know are left out, and told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from merino.domain.errors import Misconfigured
from merino.ledger.lines import ACCOUNT_ID, CALL_COLUMNS, KEY_ID, UPSTREAM
from merino.ledger.segments import FORMAT_LINE, frame, read_segment, segment_paths
from merino.sqlite.data_folder import FILE_MODE, FOLDER_MODE
from merino.sqlite.database import Database
from merino.storage.store import DATABASE, JOURNAL

_HOLD_AT, _ENDED_AT = 6, 2


class JournalGap(Misconfigured):
    """Calls may be missing between the folder and the journal."""


@dataclass(slots=True)
class RolledForward:
    """`until_ms`: the end of the last call that was put there. `left_out` are calls of accounts or
    keys that the folder does not have."""

    calls: int = 0
    until_ms: int | None = None
    left_out: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    damaged: list[str] = field(default_factory=list[str])


def roll_forward(
    folder: Path, journals: Sequence[Path], until_ms: int | None, *, despite_gap: bool = False
) -> RolledForward:
    """Take what is in these folders of segments and not in the data folder, as far as the moment.
    Raises `JournalGap`."""
    last_seq, accounts, keys = _known(folder)
    own = segment_paths(folder / JOURNAL)
    for path in own:
        for record in read_segment(path, path.read_bytes()):
            last_seq = max(last_seq, record[0])
    rolled = RolledForward()
    for journal in journals:
        found = _lines(journal, rolled.damaged)
        fresh = [record for record in found if record[0] > last_seq]
        if not fresh:
            continue
        if len(fresh) == len(found) and fresh[0][0] > last_seq + 1 and not despite_gap:
            raise JournalGap(
                f"{journal} begins with line {fresh[0][0]}, and the backup ends with {last_seq}: "
                "what the lines between them say is in neither. (A relay that was restarted "
                "in between has booked them in its database, and begun a new journal.) To go on "
                "without them: --despite-gap"
            )
        last_seq = fresh[-1][0]
        kept = [
            frame(msgspec.json.encode(record))
            for record in fresh
            if _is_kept(record, until_ms, accounts, keys, rolled)
        ]
        number = max((int(path.stem) for path in segment_paths(folder / JOURNAL)), default=0) + 1
        _write(folder / JOURNAL / f"{number:08d}.log", [frame(FORMAT_LINE), *kept])
    return rolled


def _known(folder: Path) -> tuple[int, set[str], set[str]]:
    database = Database.to_read(folder / DATABASE)
    try:
        return (
            database.only("SELECT value FROM meta WHERE name = 'applied_seq'"),
            {row[0] for row in database.execute("SELECT id FROM accounts")},
            {row[0] for row in database.execute("SELECT id FROM keys")},
        )
    finally:
        database.close()


def _lines(journal: Path, damaged: list[str]) -> list[list[Any]]:
    """All that can be read, up to the first damage that is none of a crash."""
    found: list[list[Any]] = []
    paths = segment_paths(journal)
    for path in paths:
        data = path.read_bytes()
        end = _read(read_segment(path, data), found)
        if end < len(data) and b"\n" in data[end:]:
            damaged.append(
                f"{path} is damaged at byte {end}; calls that are noted behind it are not restored"
            )
            break
    return found


def _read(lines: Iterator[list[Any]], into: list[list[Any]]) -> int:
    while True:
        try:
            into.append(next(lines))
        except StopIteration as ended:
            return int(ended.value)


def _is_kept(
    record: list[Any],
    until_ms: int | None,
    accounts: set[str],
    keys: set[str],
    rolled: RolledForward,
) -> bool:
    if record[1] == "hold":
        _, _, _, account_id, key_id, *_ = record
        is_early = until_ms is None or record[_HOLD_AT] <= until_ms
        return is_early and account_id in accounts and key_id in keys
    at_ms, row = record[_ENDED_AT], record[3]
    if until_ms is not None and at_ms > until_ms:
        return False
    if row[ACCOUNT_ID] not in accounts or row[KEY_ID] not in keys:
        shown: dict[str, Any] = dict(zip(CALL_COLUMNS[: UPSTREAM + 1], row, strict=False))
        rolled.left_out.append(shown)
        return False
    rolled.calls += 1
    rolled.until_ms = max(rolled.until_ms or 0, at_ms)
    return True


def _write(path: Path, lines: list[bytes]) -> None:
    path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(fd)
