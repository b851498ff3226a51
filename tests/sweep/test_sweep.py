"""What the product says to everything it can be asked, compared with what it said before."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
SHOWN_LINES = 120
TIMEOUT_S = 300


def test_every_answer_is_as_recorded(tmp_path):
    """Every operation and command, with good input and bad, answers byte for byte as recorded; a new
    one needs good input in the plans. `make sweep-record` writes what is meant."""
    made = subprocess.run(
        [sys.executable, HERE / "record.py", "--into", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert 0 == made.returncode, made.stdout + made.stderr

    names = sorted(each.name for each in RECORDED.glob("*.txt"))
    assert names == sorted(each.name for each in tmp_path.glob("*.txt"))
    differences = [line for name in names for line in _differences(name, tmp_path)]

    assert [] == differences[:SHOWN_LINES], "\n".join(differences[:SHOWN_LINES])


def _differences(name: str, folder: Path) -> list[str]:
    before, after = ((each / name).read_text() for each in (RECORDED, folder))
    if before == after:
        return []
    return list(
        difflib.unified_diff(
            before.split("\n"), after.split("\n"), f"recorded/{name}", name, lineterm="", n=3
        )
    )
