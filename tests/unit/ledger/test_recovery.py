"""A start after a crash may crash as well, at any step and as often as it likes: every call has
exactly one outcome, and the books balance. `docs/decisions/0012` names the states."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.ledger.folder_at_death import (
    DyingAt,
    a_hold,
    a_record,
    drop,
    holding,
    leave,
    outcomes,
    prepared,
    start_dying_at,
)

from merino.ledger import applier, journal
from merino.storage import Store

SETTLED, HELD = 3, 3
EXPECTED = {f"s{n}": ["settled"] for n in range(SETTLED)} | {
    f"h{n}": ["expired"] for n in range(HELD)
}


@pytest.fixture
def crashed(tmp_path, monkeypatch) -> Path:
    """A folder with settled calls and open holds that only its journal knows of."""
    folder = tmp_path / "crashed"
    asyncio.run(leave(folder, settled=SETTLED, held=HELD))
    monkeypatch.setattr(applier, "SLICE_CALLS_MAX", 2)
    return folder


def copies(crashed: Path):
    number = 0
    while True:
        number += 1
        folder = crashed.with_name(f"copy{number}")
        shutil.copytree(crashed, folder)
        yield folder
        shutil.rmtree(folder)


def test_a_start_may_die_at_any_step_and_the_next_at_any_other(crashed) -> None:
    """Whatever two steps that are: each of the first, with some of the second (`make test-crash`
    tries them all)."""
    folders, died_twice, first, has_died = copies(crashed), 0, 0, True
    stride = int(os.environ.get("MERINO_TEST_STRIDE", "11"))
    while has_died:
        first += 1
        for second in range(1 + first % stride, 40, stride):
            folder = next(folders)
            has_died = start_dying_at(folder, first)
            has_died_again = start_dying_at(folder, second)
            died_twice += has_died and has_died_again
            assert EXPECTED == asyncio.run(outcomes(folder))
            if not has_died_again:
                break
    assert first > 19, "there are more steps than these in a start after a crash"
    assert died_twice > 20


def damage_end(folder: Path, kind: str) -> None:
    [segment] = (folder / "journal").glob("*.log")
    data = segment.read_bytes()
    lines = data.splitlines(keepends=True)
    last = len(data) - len(lines[-1])
    damaged = {
        "torn": data[: last + 20],
        "flipped": data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
        "zeros": data[: last + 20] + bytes(len(lines[-1]) - 20),
    }[kind]
    segment.write_bytes(damaged)


@pytest.mark.parametrize("kind", ["torn", "flipped", "zeros"])
def test_a_start_that_cuts_the_journals_end_may_die_at_any_step(crashed, kind) -> None:
    """What was cut off is kept beside it and told of, once, unless a crash had cut it already; the
    call whose settlement it was has one outcome all the same."""
    damage_end(crashed, kind)
    lost = f"s{SETTLED - 1}"
    expected = EXPECTED | {lost: ["expired"]}
    folders, step, has_died = copies(crashed), 0, True
    damaged = next((crashed / "journal").glob("*.log")).read_bytes()
    while has_died:
        step += 1
        folder = next(folders)
        has_died = start_dying_at(folder, step)
        start_dying_at(folder, step)
        assert expected == asyncio.run(outcomes(folder))
        kept = [path.read_bytes() for path in (folder / "journal").glob("*.damaged")]
        assert ([] if kind == "torn" else [damaged]) == kept
        store = Store.open(folder)
        assert (0 if kind == "torn" else 1) == len(store.damage())
        assert all(lost in note for note in store.damage() if kind == "flipped")
        asyncio.run(store.close())
    assert step > 19


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.unit.ledger.folder_at_death import killed, start_dying_at
from merino.ledger import applier
applier.SLICE_CALLS_MAX = 2
start_dying_at(Path(sys.argv[1]), int(sys.argv[2]), killed)
"""


@pytest.mark.parametrize(("first", "second"), [(9, 4), (15, 15), (19, 18)])
def test_killed_twice_while_it_recovers(crashed, first, second) -> None:
    """The same with `kill -9` of real processes, at steps of which some are amid a transaction."""
    root = str(Path(__file__).parents[3])
    for start, step in enumerate((first, second)):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(crashed), str(step), root], check=False, timeout=60
        )
        assert done.returncode in (0, -signal.SIGKILL)
        if start == 0:
            assert -signal.SIGKILL == done.returncode
    assert EXPECTED == asyncio.run(outcomes(crashed))


def test_segments_left_in_part_expire_nothing_that_ended(tmp_path, monkeypatch) -> None:
    """A power cut may bring back any of the segments that a recovery deleted: a hold without its end
    is none if the database knows the call."""
    monkeypatch.setitem(journal.Journal.__init__.__kwdefaults__, "segment_bytes_max", 600)

    async def scenario() -> None:
        store, key = await prepared(tmp_path / "a")
        for number in range(6):
            hold = a_hold(key, f"s{number}")
            await holding(store, hold, key)
            await asyncio.sleep(0)
            await store.ledger.settle(hold, key, a_record(hold))
        drop(store)

    asyncio.run(scenario())
    segments = sorted((tmp_path / "a" / "journal").glob("*.log"))
    assert len(segments) > 2
    saved = {path: path.read_bytes() for path in segments}
    expected = {f"s{number}": ["settled"] for number in range(6)}
    assert expected == asyncio.run(outcomes(tmp_path / "a"))
    for path, data in saved.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        assert expected == asyncio.run(outcomes(tmp_path / "a"))


def test_steps_are_counted(crashed) -> None:
    """A start that is not told to die does not, and has its steps."""
    with DyingAt(0) as steps:
        drop(Store.open(crashed))
    assert steps.steps >= 19
