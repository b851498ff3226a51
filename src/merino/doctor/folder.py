"""The data folder: whose it is, who may look into it, and how much room is left."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from merino.doctor.finding import Finding, ok, problem, warning

FREE_WARNING_BYTES = 1024**3
FREE_PROBLEM_BYTES = 100 * 1024**2
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_folder(folder: Path) -> list[Finding]:
    """Whether a relay can own it."""
    if not folder.is_dir():
        return [
            problem(
                "folder",
                f"There is no data folder {folder}.",
                "Name the right one with --data or MERINO_DATA; `merino serve` makes a new one.",
            )
        ]
    mend = f"Give it to who runs the relay: chown -R USER {folder}; chmod 700 {folder}."
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return [problem("folder", f"The data folder {folder} cannot be written.", mend)]
    blocked = [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_file() and not os.access(path, os.R_OK | os.W_OK)
    ]
    if blocked:
        seen = f"In the data folder {folder}, {', '.join(blocked[:5])} cannot be read and written."
        return [problem("folder", seen, mend)]
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OTHERS:
        return [
            warning(
                "folder",
                f"Others on this machine may look into the data folder {folder} (mode {mode:o}): "
                "whoever can is its administrator.",
                f"chmod 700 {folder}; a relay does so at its start.",
            )
        ]
    return [ok("folder", f"The data folder {folder} is there and private.")]


def check_disk(folder: Path) -> list[Finding]:
    return check_free_bytes(shutil.disk_usage(folder).free, folder)


def check_free_bytes(free: int, folder: Path) -> list[Finding]:
    """Without room for the journal, a relay refuses every call: nothing unpaid goes out."""
    shown = f"{free / 1024**3:.1f} GiB" if free >= 1024**3 else f"{free // 1024**2} MiB"
    if free >= FREE_WARNING_BYTES:
        return [ok("disk-space", f"{shown} are free for the data folder.")]
    make = problem if free < FREE_PROBLEM_BYTES else warning
    seen = f"Only {shown} are free where the data folder {folder} is."
    mend = "Free some: once it is full, every call is refused with 503 store_unavailable."
    return [make("disk-space", seen, mend)]
