"""What calls of one kind usually use, and that it outlives a process."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from merino.domain.errors import StoreUnavailable
from merino.gateway.expectations import (
    SAMPLES_MIN,
    SAVED_SAMPLES_MAX,
    SAVED_TAGS_MAX,
    Expectations,
    save,
)
from merino.storage.learned import LearnedFile


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def learned(tags: dict[str, int]) -> Expectations:
    """So many calls of each tag, whose output grows by a token a call."""
    expectations = Expectations()
    for tag, calls in tags.items():
        for number in range(calls):
            expectations.learn(tag, 100 + number, number % 7, 0.5)
    return expectations


def test_nothing_is_claimed_of_few_calls():
    """Before there are enough samples there is no expectation."""
    assert learned({"a": SAMPLES_MIN - 1}).of("a") is None
    assert learned({"a": SAMPLES_MIN}).of("a") is not None


@pytest.mark.anyio
async def test_what_was_learned_is_there_after_a_restart(tmp_path: Path):
    """The same expectation for every tag, from a file that only its owner reads."""
    memory = LearnedFile(tmp_path / "learned.json")
    before = learned({"o3\nhigh": SAMPLES_MIN, "o3": SAMPLES_MIN, "rare": 3})
    await save(before, memory)
    after = Expectations()
    after.load(LearnedFile(tmp_path / "learned.json").load())

    for tag in ("o3\nhigh", "o3", "rare"):
        assert before.of(tag) == after.of(tag)
    assert 0o600 == stat.S_IMODE((tmp_path / "learned.json").stat().st_mode)
    for number in range(SAMPLES_MIN - 3):
        after.learn("rare", 5 + number, 0, 0.1)
    assert after.of("rare") is not None


@pytest.mark.anyio
async def test_the_snapshot_is_bounded(tmp_path: Path):
    """It holds the tags with the most calls, and of each the newest samples."""
    expectations = learned({f"t{number}": 1 for number in range(SAVED_TAGS_MAX + 50)})
    for number in range(SAVED_SAMPLES_MAX * 3):
        expectations.learn("busy", number, 0, 1.0)
    await save(expectations, LearnedFile(tmp_path / "learned.json"))
    found = {each.tag: each for each in LearnedFile(tmp_path / "learned.json").load()}

    assert SAVED_TAGS_MAX == len(found)
    newest = list(range(SAVED_SAMPLES_MAX * 2, SAVED_SAMPLES_MAX * 3))
    assert newest == found["busy"].output_tokens


@pytest.mark.anyio
async def test_nothing_new_is_not_written_again(tmp_path: Path):
    """A relay without calls leaves its disk alone."""
    memory = LearnedFile(tmp_path / "learned.json")
    await save(Expectations(), memory)
    assert not (tmp_path / "learned.json").exists()
    expectations = learned({"a": 30})
    await save(expectations, memory)
    written = (tmp_path / "learned.json").stat().st_ino
    await save(expectations, memory)
    assert written == (tmp_path / "learned.json").stat().st_ino


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        json.dumps({"format": 2, "tags": []}).encode(),
        json.dumps({"format": 1, "tags": [["a", [-1], [0], [1.0]]]}).encode(),
        json.dumps({"format": 1, "tags": [["a", [1, 2], [0], [1.0]]]}).encode(),
        json.dumps({"format": 1, "tags": [["a", [1], [0], [1e400]]]}).encode(),
        json.dumps({"format": 1, "tags": [["a", ["1"], [0], [1]]]}).encode(),
    ],
)
def test_a_damaged_snapshot_is_nothing(tmp_path: Path, content: bytes):
    """Holds are made by it, so what is not surely ours is not used; and no start fails by it."""
    path = tmp_path / "learned.json"
    path.write_bytes(content)
    assert [] == list(LearnedFile(path).load())


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    """What is there stays whole, and the error says where and why."""
    path = tmp_path / "learned.json"
    memory = LearnedFile(path)
    memory.save(list(learned({"a": 30}).export()))
    before = path.read_bytes()
    path.with_suffix(".new").mkdir()
    with pytest.raises(StoreUnavailable, match=r"learned\.json cannot be written: Is a directory"):
        memory.save(list(learned({"b": 30}).export()))
    assert before == path.read_bytes()
