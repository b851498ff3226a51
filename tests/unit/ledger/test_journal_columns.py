"""A folder that was killed can be opened by the version that comes after, whatever columns call
records have there: the journal says which it has."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.unit.ledger.folder_at_death import leave, outcomes

import merino
from merino.domain.call import Attempt, CallRecord
from merino.domain.usage import Usage
from merino.ledger.lines import ATTEMPTS, CALL_COLUMNS, UNNAMED_COLUMNS, row_of, row_reader
from merino.storage import Store

FOLDERS = Path(__file__).parent / "folders"
SOURCE = Path(merino.__file__).parent

ADDED = {
    "in the middle": ("    status: int\n", '    status: int\n    colour: str = "none"\n'),
    "at the end": (
        "    response_text: str | None = None\n",
        "    response_text: str | None = None\n    colour: str = 'none'\n",
    ),
}
OPENED = """
import asyncio, sys
from pathlib import Path
from merino.storage import Store

async def main():
    store = Store.open(Path(sys.argv[1]))
    rows = await store.read(
        lambda c: list(c.execute("SELECT id, resolution, charged_nanos, colour FROM calls ORDER BY id"))
    )
    verified = await store.books.verify()
    await store.close()
    print(rows, list(verified.differences))

asyncio.run(main())
"""
LEFT = """
import asyncio, sys
from pathlib import Path
sys.path.append(sys.argv[2])
from tests.unit.ledger.folder_at_death import leave
asyncio.run(leave(Path(sys.argv[1]), settled=2, held=1))
"""


def changed(folder: Path, where: str) -> Path:
    """The source of a version whose call records have one more column, and its migration."""
    package = folder / "changed" / "merino"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    found = package / "domain" / "call.py"
    old, new = ADDED[where]
    text = found.read_text()
    assert 1 == text.count(old)
    found.write_text(text.replace(old, new))
    migrations = package / "sqlite" / "migrations"
    number = max(int(path.name[:4]) for path in migrations.glob("*.sql")) + 1
    (migrations / f"{number:04d}_colour.sql").write_text(
        "ALTER TABLE calls ADD COLUMN colour TEXT NOT NULL DEFAULT 'none';"
    )
    return package.parent


def run(source: Path, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.splitlines()[-1] if done.stdout else ""


@pytest.mark.parametrize("where", ADDED)
def test_a_version_with_another_column_opens_what_was_killed(tmp_path, where) -> None:
    """What was not in SQLite yet gets the column's default."""
    asyncio.run(leave(tmp_path / "data", settled=2, held=1))
    expected = "[('h0', 'expired', 0, 'none'), ('s0', 'settled', 60, 'none'), ('s1', 'settled', 60, 'none')] []"
    assert expected == run(changed(tmp_path, where), OPENED, str(tmp_path / "data"))


def test_a_folder_from_before_columns_were_named_can_be_opened(tmp_path) -> None:
    """By this version, and by one with another column: its rows are of the columns of then."""
    for name in ("a", "b"):
        with tarfile.open(FOLDERS / "unnamed_columns.tar.xz") as archive:
            archive.extractall(tmp_path / name, filter="data")
    expected = {f"c{number}": ["settled"] for number in range(4)} | {"c4": ["expired"]}
    assert expected == asyncio.run(outcomes(tmp_path / "a"))

    async def looked_at() -> CallRecord:
        store = Store.open(tmp_path / "a")
        assert await store.ledger.replay(b"\1" * 32) is None  # it is older than a day
        call = await store.calls.get("c1")
        await store.close()
        return call

    call = asyncio.run(looked_at())
    assert ("stop", 7, 11, 60, "d") == (
        call.finish_reason,
        call.input_tokens,
        call.output_tokens,
        call.charged_nanos,
        call.attempts[0].deployment,
    )
    told = run(changed(tmp_path, "in the middle"), OPENED, str(tmp_path / "b"))
    assert 5 == told.count("'none')")
    assert told.endswith("] []")


def test_a_folder_that_the_version_before_left_can_be_opened(tmp_path) -> None:
    """It died with four settled calls and an open hold that SQLite did not have; its bytes are kept,
    so that each version to come opens them."""
    with tarfile.open(FOLDERS / "named_columns.tar.xz") as archive:
        archive.extractall(tmp_path / "data", filter="data")
    expected = {f"c{number}": ["settled"] for number in range(4)} | {"c4": ["expired"]}
    assert expected == asyncio.run(outcomes(tmp_path / "data"))

    async def looked_at() -> list[CallRecord]:
        store = Store.open(tmp_path / "data")
        calls = [await store.calls.get(f"c{number}") for number in range(4)]
        await store.close()
        return calls

    for call in asyncio.run(looked_at()):
        assert (7, 11, 3, 2, 5, 40) == (
            call.input_tokens,
            call.output_tokens,
            call.cached_tokens,
            call.cache_write_tokens,
            call.reasoning_tokens,
            call.upstream_nanos,
        )
        assert ("answered", 200) == (call.attempts[0].outcome, call.attempts[0].status)
        assert ('{"prompt_tokens":7}' if call.id == "c3" else None) == call.reported_usage


def test_a_call_record_keeps_every_count_of_its_usage() -> None:
    """Else such a call could be neither billed anew nor audited from its record. How many rounds a
    vendor took only bounds what may be believed."""
    kept = set(CallRecord.__struct_fields__)
    assert {"rounds"} == set(Usage.__struct_fields__) - kept


def test_rows_are_read_by_the_names_of_their_columns() -> None:
    """In any order; a column that is new since has its default, one that is no more is left out."""
    record = CallRecord("c", "a", "k", "m", "embeddings", 5, 200, charged_nanos=7, attempts=())
    row = dict(zip(CALL_COLUMNS, row_of(record), strict=True))
    row["gone"] = "x"
    del row["attempts"], row["error_code"]
    names = sorted(row, reverse=True)
    assert row_of(record) == row_reader(names)([row[name] for name in names])


def test_columns_that_were_never_named_are_still_known() -> None:
    """Each column of then is a field of today or was dropped on purpose, and fields that came later
    have a default."""
    assert 33 == len(UNNAMED_COLUMNS)
    assert set(UNNAMED_COLUMNS) <= set(CallRecord.__struct_fields__)
    assert CALL_COLUMNS == CallRecord.__struct_fields__
    assert len(CALL_COLUMNS) == len(row_reader(UNNAMED_COLUMNS)(list(range(33))))


def test_a_row_holds_whatever_an_upstream_said() -> None:
    """Half a surrogate pair in an attempt's message keeps no call from being settled."""
    half = json.loads('"a\\ud83d"')
    record = CallRecord("c", "a", "k", "m", "chat/completions", 1, 502)
    record.attempts = (Attempt("d", 0.0, 1.0, "StreamBroken", message=half),)
    [attempt] = json.loads(row_of(record)[ATTEMPTS])
    assert "a?" == attempt["message"]
