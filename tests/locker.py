"""Another program that keeps a database locked: locks of one process never conflict with each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRIPT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The database of a data folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(folder / "merino.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as locker:
        assert locker.stdout is not None
        assert b"locked\n" == locker.stdout.readline()
        try:
            yield
        finally:
            locker.communicate(b"\n", timeout=10)
