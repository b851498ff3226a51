"""What a start does about a journal that a dead process left; `docs/decisions/0012` has the states.

Every step may be the last one of this process, too: each is atomic, and done again it changes
nothing. So nothing is remembered of how far a recovery came but what the folder itself says.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from merino.domain.errors import StoreUnavailable
from merino.domain.ledger import Hold
from merino.ledger.applier import Applier
from merino.ledger.balances import expired_record
from merino.ledger.damage import cut_off, keep_damaged
from merino.ledger.lines import decode_ended, decode_hold, row_of
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
    """From a journal that was left, to none: `read`, `apply`, then what makes SQLite durable,
    `forget`."""

    def __init__(self, folder: Path, database: Database, applier: Applier, now_ms: int) -> None:
        self.last_seq = applier.applied_seq
        self._folder = folder
        self._database = database
        self._applier = applier
        self._now_ms = now_ms
        self._holds: dict[str, Hold] = {}

    def read(self) -> None:
        """Take up what SQLite does not have, and cut off what stands behind the last good line.
        Raises `JournalDamaged` for a bad line with good ones after it."""
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
        """Apply what was taken up, and expire the holds that nothing ended: no customer pays for an
        answer they cannot be shown to have received. Raises `StoreUnavailable`."""
        expired = [hold for hold in self._holds.values() if not self._has_ended(hold)]
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
        """Delete the journal; SQLite's files must be on the disk by now. The oldest segment first:
        what is left of it never says that a hold is open whose end is gone."""
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
        """A recovery that died has expired it, or its end was in a segment that is gone."""
        sql = "SELECT 1 FROM calls WHERE id = ?"
        return self._database.one(sql, (hold.call_id,)) is not None
