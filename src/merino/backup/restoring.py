"""Restores a backup into a new folder, and if asked the calls after it, from journals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merino.backup.repository import Repository, Snapshot
from merino.backup.taking import (
    PEPPER_BYTES,
    Opened,
    lay_down,
    open_folder,
    take_empty_folder,
    write_secret,
)
from merino.domain.errors import Misconfigured
from merino.storage.folder_copy import PEPPER
from merino.storage.roll_forward import JournalGap, RolledForward, roll_forward
from merino.storage.store import JOURNAL

LEFT_OUT = "not-restored.jsonl"


@dataclass(frozen=True, slots=True)
class Restored:
    """`left_out` is a file of calls that could not be booked, if there are any."""

    snapshot: Snapshot
    rolled: RolledForward | None
    opened: Opened
    left_out: Path | None


def restore(
    repository: Repository,
    snapshot: Snapshot,
    folder: Path,
    *,
    until_ms: int | None = None,
    journals: Sequence[Path] = (),
    pepper: bytes | None = None,
    despite_gap: bool = False,
) -> Restored:
    """Into a new folder. With a moment later than the backup's, the calls from there to it are
    taken from the journal of the backup after it, and from `journals`. Raises `Misconfigured`."""
    if snapshot.has_pepper == (pepper is not None):
        raise Misconfigured(
            f"The backup {snapshot.id} has its pepper with it; leave --pepper out"
            if snapshot.has_pepper
            else f"The backup {snapshot.id} was taken without its pepper; name it with --pepper"
        )
    lock = take_empty_folder(folder)
    try:
        lay_down(repository, snapshot, folder)
        if pepper is not None:
            write_secret(folder / PEPPER, pepper)
        rolled = _roll(repository, snapshot, folder, until_ms, journals, despite_gap)
    finally:
        lock.release()
    left_out = None
    if rolled is not None and rolled.left_out:
        left_out = folder / LEFT_OUT
        lines = [json.dumps(each) + "\n" for each in rolled.left_out]
        write_secret(left_out, "".join(lines).encode())
    return Restored(snapshot, rolled, open_folder(folder), left_out)


def _roll(
    repository: Repository,
    snapshot: Snapshot,
    folder: Path,
    until_ms: int | None,
    journals: Sequence[Path],
    despite_gap: bool,
) -> RolledForward | None:
    later = [each for each in repository.snapshots() if each.moment_ms > snapshot.moment_ms]
    if until_ms is None and not journals:
        return None
    with repository.changing() as place:
        sources = [*journals]
        # A journal goes on over backups: the next one has what came after this one, and more.
        if until_ms is not None and later:
            own = [file for file in later[0].files if file.name.startswith(f"{JOURNAL}/")]
            kept = place / JOURNAL
            kept.mkdir()
            for file in own:
                (place / file.name).write_bytes(b"".join(repository.content(file)))
            sources.insert(0, kept)
        try:
            return roll_forward(folder, sources, until_ms, despite_gap=despite_gap)
        except JournalGap as gap:
            raise JournalGap(
                f"{gap.message} The backup itself is restored in {folder}; start again with an "
                "empty folder."
            ) from None


def read_pepper_file(path: Path) -> bytes:
    """Raises `Misconfigured` if it is none."""
    pepper = path.read_bytes()
    if len(pepper) != PEPPER_BYTES:
        raise Misconfigured(f"{path} is no pepper: it has {len(pepper)} bytes, not {PEPPER_BYTES}")
    return pepper
