"""What fuzzing begins with and what it found, through a whole relay in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"


@pytest.mark.parametrize("target", ["upstream", "caller"])
def test_nothing_breaks(target: str) -> None:
    """No such input makes the relay fail, hang, leave a hold or a call unresolved, book what does
    not add up, tell a secret or answer what HTTP does not allow."""
    replay = [sys.executable, str(FUZZ / "fuzz.py"), "replay", target]
    done = subprocess.run(
        [*replay, "SEEDS", str(FUZZ / "found" / target)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (0, "") == (done.returncode, done.stderr[-4000:])
    assert f"{target}: " in done.stdout
