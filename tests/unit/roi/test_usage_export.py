"""Usage as OpenAI exports it."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
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
