"""Usage as OpenAI exports it."""

from __future__ import annotations

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
from merino.exports.tables import export_text
from merino.roi import read_usage_export

HEAD = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,"
    "api_key_id,model,batch,service_tier,input_tokens,output_tokens,input_cached_tokens,"
    "input_uncached_tokens,input_text_tokens,output_text_tokens,input_cached_text_tokens,"
    "input_audio_tokens,input_cached_audio_tokens,output_audio_tokens,input_image_tokens,"
    "input_cached_image_tokens,output_image_tokens\n"
)


def row(day: int, rest: str) -> str:
    start = 1_759_622_400 + day * 86_400
    return f"{start},{start + 86_400},2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,{rest}\n"


EXPORT = (
    HEAD
    + row(0, "proj_1,10,,,o3-2025-04-16,False,default,1000,500,300,700,1000,500,300,0,0,0,0,0,0")
    + row(1, ",,,,,,,,,,,,,,,,,,,")
    + row(2, "proj_1,4,,,gpt-4.1,True,,400,100,0,400,400,100,0,0,0,0,0,0,0")
)


def test_the_usage_pages_csv():
    """Models, counts, cached tokens and batch are read; empty days only count as time."""
    exported = read_usage_export(EXPORT)
    first, second = exported.rows
    assert "o3-2025-04-16" == first.model
    assert Usage(1000, 500, cached_tokens=300) == first.usage
    assert 10 == first.calls
    assert first.tier is None
    assert "batch" == second.tier
    assert Fraction(3, 30) == exported.months


def test_the_usage_apis_json():
    """Pages of buckets of results."""
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 1000,
        "output_tokens": 500,
        "input_cached_tokens": 800,
        "num_model_requests": 5,
        "model": "gpt-4o-mini",
        "batch": None,
    }
    bucket = {"object": "bucket", "start_time": 0, "end_time": 86_400, "results": [result]}
    exported = read_usage_export(json.dumps({"object": "page", "data": [bucket]}))
    assert Usage(1000, 500, cached_tokens=800) == exported.rows[0].usage
    assert Fraction(1, 30) == exported.months


def test_the_older_json():
    """`n_context_tokens_total` and `snapshot_id` of earlier exports."""
    old = {
        "aggregation_timestamp": 1_700_000_000,
        "n_requests": 2,
        "snapshot_id": "gpt-4-0613",
        "n_context_tokens_total": 7,
        "n_generated_tokens_total": 3,
    }
    exported = read_usage_export(json.dumps({"object": "list", "data": [old]}))
    assert ("gpt-4-0613", Usage(7, 3), 2) == (
        exported.rows[0].model,
        exported.rows[0].usage,
        exported.rows[0].calls,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "no column 'input_tokens'"),
        ("{", "is not JSON"),
        ('{"data": []}', "no rows with tokens"),
        ('[{"model": "m", "input_tokens": -5}]', "is not a count"),
        ('[{"model": "m", "input_tokens": "NaN"}]', "is not a count"),
        ('[{"model": "m", "input_tokens": 1e40}]', "is not a count"),
        ('[{"input_tokens": 5}]', "no model"),
        ('[{"amount": {"value": 3}}]', "costs instead of usage"),
        ('[{"model": "m", "input_tokens": 5, "input_cached_tokens": 9}]', "contradict"),
        ('[{"model": "m", "input_tokens": 5, "start_time": "soon"}]', "is not a time"),
        ('model,input_tokens\n"m', "is not readable CSV"),
    ],
)
def test_what_is_no_export_is_refused(text, told):
    """The message names the row and what is wrong."""
    with pytest.raises(InvalidCall, match=told):
        read_usage_export(text)


def one(counts: str, *, delimiter: str = ";", start: str = "2026-11-01", batch: str = "") -> str:
    """An export of one row, as a spreadsheet writes it."""
    names = ["model", "start_time", "batch", "input_tokens", "output_tokens"]
    cells = ["o3", start, batch, counts, "7"]
    quoted = [f'"{each}"' if delimiter in each else each for each in cells]
    return delimiter.join(names) + "\n" + delimiter.join(quoted) + "\n"


@pytest.mark.parametrize(
    ("cell", "delimiter", "expected"),
    [
        ("1234567", ";", 1_234_567),
        ("1.234.567", ";", 1_234_567),
        ("1.234.567,00", ";", 1_234_567),
        ("1234567,0", ";", 1_234_567),
        ("1,234,567", ",", 1_234_567),
        ("1,234", ",", 1234),
        ("1,234.0", ",", 1234),
        ("1'234'567", ";", 1_234_567),
        ("1\u2019234\u2019567.00", ";", 1_234_567),
        ("1 234 567", ";", 1_234_567),
        ("1\u00a0234", ";", 1234),
        ("1\u202f234\u202f567,00", "\t", 1_234_567),
        (" 12 ", ";", 12),
        ("12.0", ",", 12),
    ],
)
def test_counts_are_read_as_their_writer_meant_them(cell, delimiter, expected):
    """Grouped by whatever mark, with a decimal point or comma before zeros."""
    exported = read_usage_export(one(cell, delimiter=delimiter))
    assert expected == exported.rows[0].usage.input_tokens


@pytest.mark.parametrize(
    ("cell", "delimiter"),
    [
        ("1.234", ";"),
        ("1.000", ","),
        ("1,234", ";"),
        ("1,000", "\t"),
        ("1234,5", ";"),
        ("1.5", ","),
        ("1,23E+06", ";"),
        ("1.23E+06", ","),
        ("1e6", ","),
        ("1,2,3", ","),
        ("1 0", ";"),
        ("(12)", ";"),
        ("-3", ";"),
        ("#####", ";"),
        ("12 Tsd.", ";"),
    ],
)
def test_counts_that_may_be_others_are_refused(cell, delimiter):
    """With the row, the column and what was read."""
    with pytest.raises(InvalidCall, match=r"row 1: input_tokens = .* is not a count"):
        read_usage_export(one(cell, delimiter=delimiter))


@given(
    st.integers(0, 10**12),
    st.sampled_from([",", ".", "'", " ", "\u00a0", "\u202f", "_", ""]),
    st.sampled_from(["", ".0", ",0", ".00", ",00", ".000", ",000"]),
    st.sampled_from([",", ";", "\t"]),
)
def test_a_count_is_read_right_or_refused(number, mark, zeros, delimiter):
    """Never as another number, whatever the writer's country."""
    assume(mark != zeros[:1])  # nobody has one mark for both
    text = f"{number:,}".replace(",", mark) + zeros
    try:
        read = read_usage_export(one(text, delimiter=delimiter))
    except InvalidCall:
        return
    # A comma before three zeros groups where commas do.
    grouped = int(f"{number}{zeros[1:]}")
    assert read.rows[0].usage.input_tokens in (number, grouped)
    if read.rows[0].usage.input_tokens != number:
        assert (",", ",000") == (delimiter, zeros)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-11-01", 1_793_491_200),
        ("2026/11/1", 1_793_491_200),
        ("2026.11.01", 1_793_491_200),
        ("20261101", 1_793_491_200),
        ("2026-11-01T00:00:00Z", 1_793_491_200),
        ("2026-11-01 00:00:00 UTC", 1_793_491_200),
        ("2026/11/01 01:00:00+01:00", 1_793_491_200),
        ("1793491200", 1_793_491_200),
        ("1793491200.0", 1_793_491_200),
        ("1793491200000", 1_793_491_200),
        ("1793491200000000", 1_793_491_200),
    ],
)
def test_moments_are_read_as_their_writer_meant_them(day, expected):
    """Years first, or seconds and their thousandths since 1970."""
    exported = read_usage_export(one("5", start=day))
    assert exported.since is not None
    assert expected == exported.since.timestamp()


@pytest.mark.parametrize(
    "day",
    ["01.11.2026", "11/01/2026", "31/12/2026", "46327", "46327,5", "1,79349E+09", "1 Nov. 2026"],
)
def test_days_in_another_order_are_refused(day):
    """A guess would move the span of the export, and with it every monthly figure."""
    with pytest.raises(InvalidCall, match="is not a time, or not the same one everywhere"):
        read_usage_export(one("5", start=day))


@pytest.mark.parametrize(
    ("word", "expected"), [("TRUE", "batch"), ("true", "batch"), ("1", "batch"), ("FALSE", None)]
)
def test_batch_is_true_or_false(word, expected):
    """As spreadsheets and programs write it."""
    assert expected == read_usage_export(one("5", batch=word)).rows[0].tier


@pytest.mark.parametrize("word", ["WAHR", "VRAI", "x"])
def test_a_word_in_another_language_is_refused(word):
    """Read as false, it would double the price of a batch."""
    with pytest.raises(InvalidCall, match="neither true nor false"):
        read_usage_export(one("5", batch=word))


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + one("5"),
        one("5").replace("\n", "\r\n"),
        one("5").replace("\n", "\r"),
        one("5").replace("input_tokens", "Input Tokens"),
        one("5").replace("7\n", "7;\n"),
        "\n\n" + one("5"),
    ],
)
def test_a_spreadsheets_own_ways_are_known(text):
    """Its first line, its line ends, its capitals, an empty column at the end."""
    assert Usage(5, 7) == read_usage_export(text).rows[0].usage


def test_a_row_of_another_width_is_refused():
    """A number with a comma that is not quoted would move all counts behind it."""
    text = "model,input_tokens,output_tokens\no3,1,234,7\n"
    with pytest.raises(InvalidCall, match="row 1 has 4 columns, the first line 3"):
        read_usage_export(text)
    with pytest.raises(InvalidCall, match="row 1 has 2 columns"):
        read_usage_export("model,input_tokens,output_tokens\no3,1\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_that_spreadsheets_save(encoding):
    """UTF-8 with or without a mark, UTF-16 with its mark; what has none is named and refused."""
    data = one("1\u202f234").encode(encoding)
    if encoding.startswith("utf-16-"):
        with pytest.raises(InvalidCall, match="UTF-16"):
            export_text(data)
        mark = BOM_UTF16_LE if encoding.endswith("le") else BOM_UTF16_BE
        data = mark + data
    assert 1234 == read_usage_export(export_text(data)).rows[0].usage.input_tokens


@pytest.mark.parametrize("encoding", ["cp1252", "utf-32"])
def test_other_encodings_are_refused(encoding):
    """With what to do."""
    with pytest.raises(InvalidCall, match="save it as UTF-8"):
        export_text(one("1\u00a0234").encode(encoding))
