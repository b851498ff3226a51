"""Reading usage, whole answers and error bodies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.usage import Usage
from merino.wire.catalogue import model_list, model_object
from merino.wire.errors import error_body, parse_error
from merino.wire.reported_usage import parse_usage
from merino.wire.usage import parse_chat_response, parse_embeddings_response

P, C, T = "prompt_tokens", "completion_tokens", "total_tokens"
PD, CD = "prompt_tokens_details", "completion_tokens_details"


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({P: 9, C: 4, T: 13}, Usage(9, 4)),
        ({P: 9, T: 9}, Usage(9, 0)),
        ({"input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
        ({P: 9, C: 4, PD: None, CD: None}, Usage(9, 4)),
        ({P: 9, C: 4, PD: {"cached_tokens": 3}}, Usage(9, 4, cached_tokens=3)),
        ({P: 9, C: 4, PD: {"cached_tokens": None}, CD: {}}, Usage(9, 4)),
        ({P: 9}, Usage(9, 0)),
        ({C: 4}, Usage(0, 4)),
        ({P: 9, C: -4}, Usage(9, 0)),
        ({P: 9, C: 4, PD: {"cached_tokens": 10}}, Usage(9, 4, cached_tokens=9)),
        ({P: 9, C: 4, CD: {"reasoning_tokens": 5}}, Usage(9, 4, reasoning_tokens=4)),
        ({P: 9, C: 4, PD: {"cached_tokens": -1}}, Usage(9, 4)),
        (
            {P: 9, C: 4, PD: {"cached_tokens": 5, "cache_write_tokens": 5}},
            Usage(9, 4, cached_tokens=5, cache_write_tokens=4),
        ),
        ({P: 9, C: 4, "prompt_cache_hit_tokens": 3}, Usage(9, 4, cached_tokens=3)),
        ({P: 9, C: 4, PD: {"cache_write_tokens": 3}}, Usage(9, 4, cache_write_tokens=3)),
        ({P: 9, C: 4, PD: {"cache_creation_tokens": 3}}, Usage(9, 4, cache_write_tokens=3)),
        (
            {P: 9, C: 4, PD: {"audio_tokens": 1, "image_tokens": 2}, CD: {"audio_tokens": 3}},
            Usage(9, 4, image_input_tokens=2, audio_input_tokens=1, audio_output_tokens=3),
        ),
        ({P: 9, C: 4, T: 13, CD: {"reasoning_tokens": 3}}, Usage(9, 4, reasoning_tokens=3)),
        ({P: 9, C: 4, T: 113, CD: {"reasoning_tokens": 100}}, Usage(9, 104, reasoning_tokens=100)),
        (
            {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2},
             "output_tokens_details": {"reasoning_tokens": 1}},
            Usage(9, 4, cached_tokens=2, reasoning_tokens=1),
        ),
    ],
)  # fmt: skip
def test_usage_is_read_in_every_spelling(raw, usage):
    """OpenAI's two spellings and the vendors' additions give the same numbers."""
    assert usage == parse_usage(json.dumps(raw).encode())


@pytest.mark.parametrize(
    "raw",
    [
        None, {}, [], "x", {P: None, C: None}, {P: -1, C: -4}, {T: 0}, {T: -3}, {"n": 3},
    ],
)  # fmt: skip
def test_usage_that_says_nothing_is_none(raw):
    """What tells neither input nor output nor a total is no usage."""
    assert parse_usage(json.dumps(raw).encode()) is None


@given(st.binary(max_size=40))
def test_no_usage_raises(junk):
    """Any bytes are usage or none."""
    assert parse_usage(junk) is None


def answer(message, **more):
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "c1", "choices": [choice], "usage": {P: 9, C: 4}, **more}).encode()


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"role": "assistant", "content": "h\u00e4"}, 3, 0),
        ({"content": None, "refusal": "no"}, 2, 0),
        ({"content": "a", "reasoning_content": "hmm"}, 1, 3),
        ({"content": [{"type": "text", "text": "abc"}]}, 3, 0),
        ({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, 3, 0),
        ({"content": "\ud83d"}, 3, 0),
    ],
)
def test_a_whole_answer_is_read_as_far_as_needed(message, content, reasoning):
    """Usage and finish reason are read of every answer, sizes where there is no usage."""
    result = parse_chat_response(answer(message, service_tier="flex"))
    assert (Usage(9, 4), "stop", "c1", "flex") == (
        result.usage, result.finish_reason, result.id, result.service_tier,
    )  # fmt: skip
    assert not result.is_error
    assert (content, reasoning) == (result.content_bytes, result.reasoning_bytes)
    assert parse_chat_response(answer(message, usage=None)).usage is None


@pytest.mark.parametrize("reader", [parse_chat_response, parse_embeddings_response])
def test_an_error_with_status_200_is_recognised(reader):
    """An error object in an answer that claims success is an error with its message."""
    result = reader(b'{"error": {"message": "boom", "type": "server_error", "code": 502}}')
    assert (True, "boom", "server_error", "502") == (
        result.is_error, result.error_message, result.error_type, result.error_code,
    )  # fmt: skip
    content = b'"choices":[{"message":{"content":"a"}}],"data":[{"embedding":[1]}]'
    assert not reader(b'{"error": null, %b}' % content).is_error


@pytest.mark.parametrize("reader", [parse_chat_response, parse_embeddings_response])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_object_is_refused(reader, body):
    """Anything but a JSON object raises `ValueError`, whatever is broken about it."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the decoder's
        reader(body)


def test_embeddings_usage_is_read():
    """An embeddings answer has input tokens only."""
    body = b'{"data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":7,"total_tokens":7}}'
    assert Usage(7, 0) == parse_embeddings_response(body).usage


texts = st.text(max_size=20)


@given(
    message=texts.filter(bool),
    kind=texts.filter(bool),
    param=st.none() | texts,
    code=st.none() | texts,
)
def test_error_bodies_have_all_members_and_read_back(message, kind, param, code):
    """All four members are present whatever they hold; what was written is read back."""
    body = error_body(message, kind, param, code)
    assert {"message", "type", "param", "code"} == set(json.loads(body)["error"])
    clean = [
        t if t is None else t.encode("utf-8", "replace").decode()
        for t in (message, kind, param, code)
    ]
    if all(t is None or t for t in clean):
        assert tuple(clean) == parse_error(body)


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ({"error": "text"}, ("text", "upstream_error", None, None)),
        ({"message": "text"}, ("text", "upstream_error", None, None)),
        ({"detail": "text"}, ("text", "upstream_error", None, None)),
        ({"detail": [{"loc": ["body"], "msg": "text"}]}, ("text", "upstream_error", None, None)),
        ({"error": {"message": "text", "code": 404}}, ("text", "upstream_error", None, "404")),
        (
            [{"error": {"code": 400, "message": "text", "status": "INVALID_ARGUMENT"}}],
            ("text", "INVALID_ARGUMENT", None, "400"),
        ),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "text"}},
         ("text", "overloaded_error", None, None)),
        ({"error": {"code": "insufficient_quota"}},
         ("insufficient_quota", "upstream_error", None, "insufficient_quota")),
    ],
)  # fmt: skip
def test_other_vendors_errors_are_understood(body, parts):
    """Every vendor's way to put an error comes out in OpenAI's four members."""
    assert parts == parse_error(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"5", b'{"id": 1}', b"\xff"])
def test_what_is_no_error_body_is_none(body):
    """A body that says nothing readable is none."""
    assert parse_error(body) is None


def test_model_lists_have_openais_shape():
    """`/v1/models` is a list of model objects."""
    model = model_object("sim/o3", 1_700_000_000, "merino")
    assert {"object": "list", "data": [model]} == json.loads(model_list([model]))
    assert {"id", "object", "created", "owned_by"} == set(model)
