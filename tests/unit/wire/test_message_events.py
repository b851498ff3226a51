"""The stream of the Messages API is metered as it goes by, however it is cut into reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.simulator.playback import Simulation
from merino.simulator.steps import Bytes
from merino.wire.message_errors import error_answer, error_event
from merino.wire.message_events import MessageReader
from merino.wire.message_object import read_message
from merino.wire.sealed import mark_of

TOOL = {
    "name": "look_up",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}},
}
KINDS = {
    "text": {},
    "thinking": {"thinking": {"type": "adaptive"}},
    "sealed": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "call": {"tools": [TOOL], "tool_choice": {"type": "any"}},
    "cut": {"max_tokens": 70},
}


def answered(model: str = "o3!reasoning=64", *, stream: bool = True, **more) -> bytes:
    user = {"role": "user", "content": 'Say "hey" ünd\nmore'}
    body = {"model": model, "max_tokens": 500, "messages": [user], "stream": stream, **more}
    steps = Simulation().steps("messages", json.dumps(body).encode())
    return b"".join(each.data for each in steps if isinstance(each, Bytes))


def read(*pieces: bytes) -> tuple[MessageReader, list]:
    reader = MessageReader()
    events = []
    for piece in pieces:
        kind = reader.feed_one(piece)
        events += [(piece, kind)] if kind else [(e.raw, e.kind) for e in reader.feed(piece)]
    events += [(each.raw, each.kind) for each in reader.finish()]
    return reader, events


def seen(reader: MessageReader) -> tuple:
    return (
        reader.usage, reader.output_bytes, reader.wide_bytes, reader.reasoning_bytes,
        reader.chunks, reader.has_content, reader.finish_reason, reader.is_complete,
        reader.id, reader.sealed, reader.service_tier,
    )  # fmt: skip


def event(kind: str, **members) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def padded(text: str, spaces: int = 0) -> bytes:
    """A piece as the vendor sends it, with spaces behind."""
    delta = json.dumps({"type": "text_delta", "text": text})
    data = f'{{"type":"content_block_delta","index":0,"delta":{delta}{" " * spaces}}}'
    return f"event: content_block_delta\ndata: {data}\n\n".encode()


@pytest.mark.parametrize("kind", KINDS)
def test_however_it_is_cut(kind) -> None:
    """Split at every byte, in single bytes, or event by event: the same events, counts and bytes."""
    data = answered(**KINDS[kind])
    whole, events = read(data)
    assert data == b"".join(raw for raw, _ in events)
    assert (True, True, "done") == (whole.is_complete, whole.has_content, events[-1][1])
    for pieces in (
        [data[at : at + 1] for at in range(len(data))],
        [each + b"\n\n" for each in data.split(b"\n\n")[:-1]],
    ):
        reader, found = read(*pieces)
        assert (seen(whole), events) == (seen(reader), found)
    for at in range(1, len(data), 7):
        reader, found = read(data[:at], data[at:])
        assert (seen(whole), events) == (seen(reader), found)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_and_streamed_say_the_same(kind) -> None:
    """Usage, stop reason, sizes and seals do not depend on how an answer comes."""
    reader, _ = read(answered(**KINDS[kind]))
    whole = read_message(answered(stream=False, **KINDS[kind]))
    assert (whole.usage, whole.finish_reason, whole.content_bytes, len(whole.sealed)) == (
        reader.usage, reader.finish_reason, reader.output_bytes, len(reader.sealed),
    )  # fmt: skip


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.lists(st.tuples(TEXTS, st.integers(0, 9)), min_size=1, max_size=8))
def test_learned_pieces_count_as_read_ones(pieces) -> None:
    """What is not decoded is counted like what is, whatever the text and the padding."""
    data = [padded(text, spaces) for text, spaces in pieces]
    reader, events = read(*data)
    size = sum(len(text.encode()) for text, _ in pieces)
    assert ["content"] * len(data) == [kind for _, kind in events]
    assert size == reader.output_bytes
    assert size - sum(len(text) for text, _ in pieces) == reader.wide_bytes


def test_a_stream_that_was_cut_has_its_input_and_no_output() -> None:
    """The first event's output is a beginning, so the text that came is counted instead."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}
    start = event("message_start", message={"id": "m", "usage": usage})
    reader, _ = read(start, event("ping"), padded("so far"))
    assert (15, 0, 6) == (
        reader.usage.input_tokens,
        reader.usage.output_tokens,
        reader.output_bytes,
    )
    assert not reader.is_complete


def test_pings_and_unknown_events_go_along() -> None:
    """Neither is content before the answer has begun, and none is dropped."""
    _, events = read(event("ping"), event("content_block_start", index=0, content_block={
        "type": "text", "text": ""}), event("news", of="tomorrow"))  # fmt: skip
    assert ["other"] * 3 == [kind for _, kind in events]


def test_a_signature_in_pieces_has_one_mark() -> None:
    """It is known again by all of it; redacted thinking by its data."""
    pieces = [
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": each})
        for each in ("ab", "cd")
    ]
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    reader, events = read(
        *pieces,
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block=redacted),
    )
    assert [mark_of("abcd"), mark_of("xyz")] == reader.sealed
    assert "content" == events[0][1]


def test_an_error_event_is_the_vendors_own() -> None:
    """Its words reach the caller as they are."""
    said = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    reader, events = read(padded("a"), said)
    assert "error" == events[-1][1]
    assert said == error_event(b"{}", reader)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", (400, "invalid_request_error")),
        (404, "invalid_request_error", (404, "not_found_error")),
        (429, "rate_limit_error", (429, "rate_limit_error")),
        (429, "insufficient_quota", (402, "billing_error")),
        (503, "server_error", (503, "overloaded_error")),
        (529, "overloaded_error", (529, "overloaded_error")),
        (502, "upstream_error", (502, "api_error")),
        (403, "permission_error", (403, "permission_error")),
    ],
)
def test_errors_have_the_types_that_clients_know(status, kind, expected) -> None:
    """A vendor's own type stays; what the relay says gets the type of its status."""
    body = json.dumps({"error": {"message": "words", "type": kind}}).encode()
    found, shaped = error_answer(status, body, "req_1")
    error = {"type": expected[1], "message": "words"}
    assert expected[0] == found
    assert {"type": "error", "error": error, "request_id": "req_1"} == json.loads(shaped)


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b"1"])
def test_what_is_no_object_is_no_answer(body) -> None:
    """It raises `ValueError`, as readers of answers do."""
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        read_message(body)


def test_an_error_under_200_is_none_either() -> None:
    """In the vendor's shape, or with nothing in it."""
    said = {"type": "error", "error": {"type": "api_error", "message": "oh"}}
    assert ("oh", True) == (
        read_message(json.dumps(said).encode()).error_message,
        read_message(b"{}").is_error,
    )
