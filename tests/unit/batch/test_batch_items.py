"""Files of items: every bad row costs one row, whatever is in it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.batch import csv_rows
from merino.batch.items import BadItem, Item, Source, check, hash_of
from merino.domain.errors import Misconfigured

CHAT = '{{"custom_id": "{0}", "body": {{"model": "m", "messages": []}}}}'
MARK = b"\xef\xbb\xbf"


def csv_source(path: Path, data: bytes) -> Source:
    path.write_bytes(b"custom_id,text\n" + data)
    return Source(path, "csv", "m", "Sum up: {text}")


def ids(source: Source) -> list[str]:
    return [each.custom_id for each in source.items() if isinstance(each, Item)]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"r2,Gr\xfc\xdfe", "not UTF-8"),
        (b'r2,"b"b', "not CSV"),
        (b'r2,"b', "not CSV"),
        (b"r2,b,b", "columns"),
        (b"r2", "columns"),
        (b'r2,"b\nr2b,c"x', "not CSV"),
    ],
)
@pytest.mark.parametrize("after", [b"r3,c\nr4,d\n", b'r3,c\nr4,"d"\n', b'r3,c\nr4,"d\nd"\n'])
def test_a_bad_row_of_csv_costs_one_row(tmp_path, bad, why, after) -> None:
    """The rows around it are read as if it were not there, and it is told."""
    source = csv_source(tmp_path / "rows.csv", b"r1,a\n" + bad + b"\n" + after)
    found = ids(source)
    assert [each for each in found if each in {"r1", "r3", "r4"}] == ["r1", "r3", "r4"]
    assert any(why in str(each[1]) for each in source.items() if not isinstance(each, Item))


def test_a_long_field_is_no_bad_one(tmp_path) -> None:
    """A document may be longer than Python's own limit."""
    source = csv_source(tmp_path / "rows.csv", b"r1,a\nr2," + b"x" * 400_000 + b"\nr3,c\n")
    assert ["r1", "r2", "r3"] == ids(source)


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(cells.filter(bool), cells), min_size=1, max_size=6))
def test_what_a_csv_writer_writes_is_read_back(tmp_path_factory, rows) -> None:
    """Quotes, line breaks, separators: every row comes out as it went in."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("a", "b"))
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
    assert [{"a": a, "b": b} for a, b in rows] == [row for _, row in csv_rows.rows(path)]


@given(
    st.lists(st.sampled_from([b"x,a\n", b'"', b"\n", b",", b"\xff", b'x,"a\nb"\n']), max_size=12)
)
def test_no_csv_file_breaks_the_reader(tmp_path_factory, pieces) -> None:
    """Every row is a row or a problem; good lines before the first odd one are all read."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(b"a,b\nx,1\nx,2\n" + b"".join(pieces))
    found = list(csv_rows.rows(path))
    assert [{"a": "x", "b": "1"}, {"a": "x", "b": "2"}] == [row for _, row in found[:2]]
    assert [line for line, _ in found] == sorted(line for line, _ in found)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, end) -> None:
    """Not of JSON, and not of a prompt."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(MARK + end.join(CHAT.format(each) for each in "ab").encode())
    assert ["a", "b"] == ids(Source(path, "jsonl"))
    path = tmp_path / "prompts.txt"
    path.write_bytes(MARK + f"first{end}second".encode())
    prompts = [
        each.body["messages"][0]["content"]
        for each in Source(path, "text", "m").items()
        if isinstance(each, Item)
    ]
    assert ["first", "second"] == prompts


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["jsonl", "text", "csv"])
def test_utf_16_is_named(tmp_path, encoding, name) -> None:
    """The way out is told once, not an odd message for every line."""
    path = tmp_path / "file"
    path.write_text(CHAT.format("a") + "\n", encoding=encoding)
    with pytest.raises(Misconfigured, match="UTF-16"):
        check(Source(path, name, "m", "{text}"))


def test_half_a_surrogate_pair_keeps_its_id(tmp_path) -> None:
    """What JSON can say is an id like any other."""
    path = tmp_path / "calls.jsonl"
    path.write_text(CHAT.format("\\ud83d") + "\n")
    [item] = Source(path, "jsonl").items()
    assert isinstance(item, Item)
    assert hash_of(json.loads('"\\ud83d"')) == hash_of(item.custom_id)


def test_a_template_for_another_column_is_a_bad_row(tmp_path) -> None:
    """It says which column it needs."""
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    [found] = Source(path, "csv", "m", "{b}").items()
    assert not isinstance(found, Item)
    _, problem = found
    assert isinstance(problem, BadItem)
    assert "column 'b'" in str(problem)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_separated_as_the_first_line_says(tmp_path, delimiter) -> None:
    """Spreadsheets write semicolons where commas are decimal marks, and tabs as text."""
    path = tmp_path / "rows.csv"
    rows = [("custom_id", "text"), ("r1", "a, b; c\td"), ("r2", "x")]
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    items = list(Source(path, "csv", "m", "{text}").items())
    contents = [each.body["messages"][0]["content"] for each in items if isinstance(each, Item)]
    assert ["a, b; c\td", "x"] == contents


@pytest.mark.parametrize("name", ["stream", "background"])
def test_what_a_batch_cannot_wait_for_is_refused(tmp_path, name) -> None:
    """A stream has no whole answer, and a response in the background has none yet."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"custom_id": "a", "body": {"model": "m", name: True}}))
    assert [f"{path}:1: body.{name}"] == [
        each.rpartition(": ")[0] for each in check(Source(path, "jsonl")).problems
    ]
