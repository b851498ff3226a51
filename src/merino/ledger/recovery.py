"""Recovers the journal that a dead process left; `docs/decisions/0012` has the states.

This process may die after any step, too: each step is atomic, and repeating it changes nothing. So
the folder itself is the only record of how far a recovery came.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import structlog

from merino.domain.errors import StoreUnavailable
from merino.domain.ledger import Hold
from merino.ledger.applier import Applier
from merino.ledger.damage import cut_off, keep_damaged
from merino.ledger.lines import decode_ended, decode_hold, row_of
from merino.ledger.memory import expired_record
from merino.ledger.segments import (
    JournalDamaged,
    has_good_line,
    read_segment,
    rest_of,
    segment_paths,
)
from merino.sqlite.data_folder import sync_folder
from merino.sqlite.database import Database

RESTARTED_STATUS = 503
RESTARTED_CODE = "relay_restarted"

log = structlog.get_logger("merino.storage")


class Recovery:
    """From a leftover journal to none: `read`, `apply`, then make SQLite durable, then `forget`."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        applier: Applier,
        now_ms: int,
        going_on: Container[str] = (),
    ) -> None:
        """`going_on` has the calls that this process goes on with: their holds stay."""
        self._going_on = going_on
        self.last_seq = applier.applied_seq
        self._folder = folder
        self._database = database
        self._applier = applier
        self._now_ms = now_ms
        self._holds: dict[str, Hold] = {}

    def read(self) -> None:
        """Read what SQLite lacks, and cut off what follows the last good line. Raises
        `JournalDamaged` for a bad line with good ones after it."""
        paths = segment_paths(self._folder)
        for path in paths:
            data = path.read_bytes()
            end = self._take(path, data)
            if end == len(data):
                continue
            if path != paths[-1] or has_good_line(data, end):
                raise JournalDamaged(
                    f"{path} is damaged at byte {end}: the line there does not match its checksum, "
                    "and good lines follow. Restore the data folder from a backup; or, giving up "
                    "what this segment says, move it away: everything already applied is in the "
                    "database."
                )
            self._cut(path, data, end)

    def apply(self, database: Path) -> None:
        """Apply what was read, and expire the holds that nothing ended: no customer pays without
        proof that they received an answer. Raises `StoreUnavailable`."""
        expired = [
            hold
            for hold in self._holds.values()
            if hold.call_id not in self._going_on and not self._has_ended(hold)
        ]
        for hold in expired:
            self.last_seq += 1
            record = expired_record(hold, RESTARTED_STATUS, RESTARTED_CODE)
            self._applier.add((self.last_seq, "call", self._now_ms, row_of(record), None))
        calls = self._applier.backlog_calls
        while self._applier.backlog_calls:
            if self._applier.apply_slice():
                continue
            raise StoreUnavailable(
                f"{database} cannot be written: {self._applier.outage.error}. Free its disk or "
                "stop what locks it, and start again."
            )
        if calls:
            log.info(
                "calls of a process that ended by surprise were booked",
                calls=calls - len(expired),
                expired=len(expired),
            )

    def forget(self) -> None:
        """Delete the journal; SQLite's files must be on the disk by now. Oldest segment first: the
        rest never shows a hold as open whose end is deleted."""
        paths = segment_paths(self._folder)
        for path in paths:
            path.unlink()
        if paths:
            sync_folder(self._folder)

    def _take(self, path: Path, data: bytes) -> int:
        lines = read_segment(path, data)
        while True:
            try:
                record = next(lines)
            except StopIteration as ended:
                return ended.value
            self.last_seq = max(self.last_seq, record[0])
            if record[1] == "hold":
                hold = decode_hold(record)
                self._holds[hold.call_id] = hold
                continue
            ended_call = decode_ended(record)
            self._holds.pop(ended_call[3][0], None)
            if ended_call[0] > self._applier.applied_seq:
                self._applier.add(ended_call)

    def _cut(self, path: Path, data: bytes, end: int) -> None:
        rest = rest_of(data, end)
        if rest.is_torn:
            log.warning(
                "the last line of the journal was cut short by a crash and is cut off; nobody was "
                "told that it was written",
                segment=str(path),
                at_byte=end,
                size_bytes=rest.size_bytes,
            )
            cut_off(path, end)
        else:
            log.error(keep_damaged(path, data, rest, self._applier.applied_seq))

    def _has_ended(self, hold: Hold) -> bool:
        """Whether an earlier, interrupted recovery has expired it, or its end was in a deleted
        segment."""
        sql = "SELECT 1 FROM calls WHERE id = ?"
        return self._database.one(sql, (hold.call_id,)) is not None
