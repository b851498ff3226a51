"""What stands at a journal's end and is not a good line is never cut off without a word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.lengths import examples
from tests.unit.ledger.folder_at_death import holding, leave, outcomes

from merino.billing.notices import OPERATORS, NoticeDesk
from merino.billing.stores.stores import BillingStores
from merino.ledger.segments import FORMAT_LINE, frame, rest_of
from merino.storage import Store


def a_line(number: int) -> bytes:
    return frame(msgspec.json.encode((number, "call", 5, (f"call_{number}", "a"), None)))


GOOD = frame(FORMAT_LINE) + a_line(1)


@given(st.integers(1, len(a_line(2)) - 1), st.integers(2, 10**9))
def test_a_line_that_was_cut_short_anywhere_is_torn(cut, number) -> None:
    """That is what a crash leaves: nobody was told that it was written."""
    rest = rest_of(GOOD + a_line(number)[: min(cut, len(a_line(number)) - 1)], len(GOOD))
    assert rest.is_torn
    assert 1 == rest.lines


@settings(max_examples=examples(100))
@given(st.data())
def test_a_changed_byte_of_a_whole_line_is_damage(data) -> None:
    """Wherever it is, also in the newline, and whatever it became; the line is counted, and its call
    named unless the change is where that stands."""
    line = a_line(2)
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != line[at]))
    rest = rest_of(GOOD + line[:at] + bytes([byte]) + line[at + 1 :], len(GOOD))
    assert not rest.is_torn
    assert (len(GOOD), len(line)) == (rest.at_byte, rest.size_bytes)
    assert 1 <= rest.lines <= 2
    if at > line.index(b"call_2") + 7 and byte not in b"\n":
        assert ("call_2",) == rest.call_ids


@given(st.integers(0, 3), st.integers(0, 60), st.integers(1, 9000))
def test_zeros_are_damage_and_counted(whole, part, zeros) -> None:
    """After whole bad lines, in the middle of one, or alone."""
    bad = b"".join(a_line(number)[:-3] + b"x]\n" for number in range(2, 2 + whole))
    rest = rest_of(GOOD + bad + a_line(9)[:part].replace(b"\n", b"") + bytes(zeros), len(GOOD))
    assert not rest.is_torn
    assert (zeros, whole + (part > 0)) == (rest.zeros, rest.lines)
    assert {f"call_{number}" for number in range(2, 2 + whole)} <= set(rest.call_ids)
    assert rest.last_seq is None


def damaged(folder: Path, kind: str) -> None:
    asyncio.run(leave(folder, settled=4, held=1))
    [segment] = (folder / "journal").glob("*.log")
    data = segment.read_bytes()
    lines = data.splitlines(keepends=True)
    last, before = len(lines[-1]), len(lines[-2])
    segment.write_bytes(
        {
            "one": data[:-40] + b"~" + data[-39:],
            "two": data[: -last - before + 70] + b"~" + data[-last - before + 71 : -40] + b"~" * 40,
            "zeros": data[: -last - 10] + bytes(last + 10),
            "all": bytes(len(data)),
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "says", "lost"),
    [
        ("one", ["1 line does", "s3"], {"s3"}),
        ("two", ["2 lines do", "s2, s3"], {"s2", "s3"}),
        ("zeros", ["zeros", "s2", "of others nothing can be read"], {"s2", "s3"}),
        ("all", ["bytes are zeros", "cannot be read any more"], None),
    ],
)
def test_damage_is_said_and_kept_until_somebody_takes_note(tmp_path, kind, says, lost) -> None:
    """In the log once; by verify and to operators for as long as the note lies there, once each."""
    damaged(tmp_path, kind)
    [segment] = (tmp_path / "journal").glob("*.log")
    was = segment.read_bytes()
    with capture_logs() as logs:
        found = asyncio.run(outcomes(tmp_path))
    [told] = [each["event"] for each in logs if each["log_level"] == "error"]
    assert str(segment) in told
    assert all(each in told for each in (*says, "at byte", "00000001.log.damaged"))
    if lost is not None:
        assert lost == {
            name for name, how in found.items() if name[0] == "s" and how != ["settled"]
        }
    [copy] = (tmp_path / "journal").glob("*.damaged")
    assert was == copy.read_bytes()

    async def looked_at() -> tuple[list[str], list[str]]:
        store = Store.open(tmp_path)
        verified = [each.what for each in (await store.books.verify()).differences]
        notes = store.damage()
        nobody: Any = None  # damage is about no account
        desk = NoticeDesk(
            store.accounts, nobody, BillingStores(store).notices, nobody, damage=store.damage
        )
        made = [await desk.look(), await desk.look()]
        assert sum(made) <= 1
        kinds = [each.kind for each in await BillingStores(store).notices.list(OPERATORS, 9)]
        assert ["journal.damaged"] == kinds
        await store.close()
        return verified, notes

    for _ in range(2):  # another start changes nothing
        with capture_logs() as logs:
            verified, notes = asyncio.run(looked_at())
        assert [] == [each for each in logs if each["log_level"] == "error"]
        assert notes == verified
        assert 1 == len(notes)
        assert told in notes[0]

    copy.unlink()
    copy.with_name(f"{copy.name}.txt").unlink()
    store = Store.open(tmp_path)
    assert [] == store.damage()
    asyncio.run(store.close())


def test_damage_of_what_the_database_has_is_no_loss(tmp_path, monkeypatch) -> None:
    """The log says so, the segment is kept, and nothing more is made of it."""

    async def leave_applied() -> None:
        from tests.unit.ledger.folder_at_death import a_hold, a_record, drop, prepared

        store, key = await prepared(tmp_path)
        hold = a_hold(key, "s0")
        await holding(store, hold, key)
        await store.ledger.settle(hold, key, a_record(hold))
        assert await store.ledger.settled_down()
        drop(store)

    asyncio.run(leave_applied())
    [segment] = (tmp_path / "journal").glob("*.log")
    data = segment.read_bytes()
    segment.write_bytes(data[:-9] + b"~" + data[-8:])
    with capture_logs() as logs:
        assert {"s0": ["settled"]} == asyncio.run(outcomes(tmp_path))
    [told] = [each["event"] for each in logs if each["log_level"] == "error"]
    assert "so nothing is lost" in told
    assert [data[:-9] + b"~" + data[-8:]] == [
        path.read_bytes() for path in (tmp_path / "journal").glob("*.damaged")
    ]
    store = Store.open(tmp_path)
    assert [] == store.damage()
    asyncio.run(store.close())


def test_a_second_damage_does_not_replace_the_copy_of_the_first(tmp_path) -> None:
    """Segments' numbers come again; copies have names of their own."""
    for kind in ("one", "zeros"):
        folder = tmp_path / kind
        damaged(folder, kind)
    asyncio.run(outcomes(tmp_path / "one"))
    second = (tmp_path / "zeros" / "journal" / "00000001.log").read_bytes()
    (tmp_path / "one" / "journal" / "00000001.log").write_bytes(second)
    asyncio.run(outcomes(tmp_path / "one"))
    copies = sorted((tmp_path / "one" / "journal").glob("*.damaged"))
    assert ["00000001.log.2.damaged", "00000001.log.damaged"] == [path.name for path in copies]
    assert second == copies[0].read_bytes()
    store = Store.open(tmp_path / "one")
    assert 2 == len(store.damage())
    asyncio.run(store.close())


def test_a_torn_line_is_one_line_in_the_log_and_nothing_else(tmp_path) -> None:
    """It is what every crash may leave."""
    asyncio.run(leave(tmp_path, settled=1, held=0))
    [segment] = (tmp_path / "journal").glob("*.log")
    segment.write_bytes(segment.read_bytes()[:-5])
    with capture_logs() as logs:
        assert {"s0": ["expired"]} == asyncio.run(outcomes(tmp_path))
    [told] = [each for each in logs if "cut short" in each["event"]]
    assert "warning" == told["log_level"]
    assert [] == [path.name for path in (tmp_path / "journal").iterdir()]
