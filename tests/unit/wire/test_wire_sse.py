"""Framing and reading of chat streams."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.usage import Usage
from merino.wire.splitting import Event
from merino.wire.sse import (
    DONE,
    StreamReader,
    comment,
    data_event,
    error_event,
    without_usage,
)

SEEN = (
    "usage", "wide_bytes", "has_finished", "is_complete", "finish_reason", "service_tier", "output_bytes", "reasoning_bytes", "chunks",
    "has_content", "is_done", "error",
)  # fmt: skip


def chunk(delta=None, *, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


def usage_chunk(**more):
    return json.dumps(
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}, **more}
    )


def read(*data: bytes) -> tuple[StreamReader, list[Event]]:
    reader = StreamReader()
    events = [event for piece in data for event in reader.feed(piece)]
    return reader, events + reader.finish()


def kinds(*payloads: str) -> list[str]:
    return [event.kind for event in read(*(f"data: {p}\n\n".encode() for p in payloads))[1]]


lines = st.one_of(
    st.sampled_from(
        [
            b"data: " + chunk({"content": "h\u00e4\U0001f600"}).encode(),
            b"data:" + chunk({"content": ""}, service_tier="flex").encode(),
            b"data: " + chunk({"role": "assistant"}).encode(),
            b"data: " + chunk(finish_reason="stop").encode(),
            b"data: " + usage_chunk().encode(),
            b"data: [DONE]",
            b"data: {",
            b'data: "a": 1}',
            b"data",
            b": ping",
            b"event: chunk",
            b"event: error",
            b"id: 3",
            b"",
            b"",
            b"\xef\xbb\xbf",
        ]
    ),
    st.binary(max_size=8),
)
streams = st.lists(
    st.tuples(lines, st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"\r\r"]))
)


@given(stream=streams, cuts=st.lists(st.integers(0, 2000), max_size=12), data=st.data())
def test_any_split_gives_the_same_bytes_events_and_usage(stream, cuts, data):
    """However a stream is cut into reads, its events, its bytes and what was seen are the same."""
    whole = b"".join(line + end for line, end in stream)
    reader, events = read(whole)
    assert whole == b"".join(event.raw for event in events)
    points = sorted({min(cut, len(whole)) for cut in cuts})
    pieces = [whole[a:b] for a, b in zip([0, *points], [*points, len(whole)], strict=True)]
    for split in (pieces, [bytes([byte]) for byte in whole]):
        other, others = read(*split)
        assert events == others
        assert [getattr(reader, name) for name in SEEN] == [getattr(other, name) for name in SEEN]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_an_event(end):
    """LF, CRLF and CR frame the same events, the terminator stays in its event."""
    parts = [b": hi", b"data: " + chunk({"content": "x"}).encode(), b"data: [DONE]"]
    reader, events = read(b"".join(part + end * 2 for part in parts))
    assert [part + end * 2 for part in parts] == [event.raw for event in events]
    assert ["comment", "content", "done"] == [event.kind for event in events]
    assert (True, 1, 1) == (reader.is_done, reader.output_bytes, reader.chunks)


def test_an_event_is_returned_as_soon_as_it_is_complete():
    """With LF or CRLF no event waits for the next read."""
    for event in (b"data: {}\n\n", b"data: {}\r\n\r\n"):
        reader = StreamReader()
        assert [] == reader.feed(event[:-1])
        assert [Event(event, "other")] == reader.feed(event[-1:])


def test_multi_line_data_bom_and_event_names_are_understood():
    """Data lines are joined, a leading BOM and an event name do not hide them."""
    raw = b'\xef\xbb\xbfevent: chunk\ndata: {"choices": [{"delta":\ndata: {"content": "xy"}}]}\n\n'
    reader, events = read(raw)
    assert [Event(raw, "content")] == events
    assert 2 == reader.output_bytes


def test_an_unterminated_last_event_is_read_at_the_end():
    """Bytes after the last blank line are an event of their own once the stream has ended."""
    reader, events = read(DONE + b"data: " + usage_chunk().encode())
    assert ["done", "usage"] == [event.kind for event in events]
    assert Usage(9, 4) == reader.usage
    assert ["garbage"] == [event.kind for event in read(b'data: {"choi')[1]]


@pytest.mark.parametrize(
    ("delta", "kind", "output", "reasoning"),
    [
        ({"role": "assistant", "content": ""}, "role", 0, 0),
        ({"role": "assistant", "content": None}, "role", 0, 0),
        ({}, "other", 0, 0),
        ({"content": "h\u00e4"}, "content", 3, 0),
        ({"content": "\U0001f600"}, "content", 4, 0),
        ({"content": [{"type": "text", "text": "abc"}]}, "content", 3, 0),
        ({"refusal": "no"}, "content", 2, 0),
        ({"reasoning_content": "hmm"}, "content", 0, 3),
        ({"reasoning": "hmm", "reasoning_content": "hmm"}, "content", 0, 3),
        ({"reasoning": {"a": 1}, "content": "x"}, "content", 1, 0),
        (
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]},
            "content", 3, 0,
        ),
        ({"tool_calls": [{"index": 0, "custom": {"name": "f", "input": "ab"}}]}, "content", 3, 0),
        ({"function_call": {"name": "f", "arguments": "12"}}, "content", 3, 0),
        ({"audio": {"id": "a", "transcript": "hi", "data": "AAAA"}}, "content", 2, 0),
        ({"audio": None}, "other", 0, 0),
        ({"tool_calls": []}, "other", 0, 0),
    ],
)  # fmt: skip
def test_deltas_are_told_apart_and_measured(delta, kind, output, reasoning):
    """A delta is content if it carries anything a model produced; its text is measured in UTF-8."""
    reader, events = read(data_event(chunk(delta).encode()))
    assert [kind] == [event.kind for event in events]
    assert (output, reasoning) == (reader.output_bytes, reader.reasoning_bytes)
    assert (kind == "content") == reader.has_content


def test_half_an_emoji_is_content():
    """An escaped surrogate pair that is cut in two is content, and counts in full or more."""
    reader, events = read(
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n'
    )
    assert ["content", "content"] == [event.kind for event in events]
    assert 6 == reader.output_bytes


def test_usage_is_found_wherever_vendors_put_it():
    """Usage counts in a chunk of its own, beside the last choice, and inside a choice; last wins."""
    beside = chunk({"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 2})
    inside = json.dumps(
        {"choices": [{"delta": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}]}
    )
    reader, events = read(data_event(beside.encode()))
    assert (["content"], Usage(1, 2)) == ([event.kind for event in events], reader.usage)
    assert Usage(3, 4) == read(data_event(inside.encode()))[0].usage
    reader, _ = read(data_event(beside.encode()), data_event(usage_chunk().encode()))
    assert Usage(9, 4) == reader.usage


def test_null_usage_does_not_erase_what_was_seen():
    """With usage switched on every other chunk says null, which means nothing."""
    reader, _ = read(data_event(usage_chunk().encode()), data_event(chunk(usage=None).encode()))
    assert Usage(9, 4) == reader.usage


@pytest.mark.parametrize(
    "later",
    [
        {},
        [],
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 9},
        {"completion_tokens": 2},
        {"prompt_tokens": -1, "completion_tokens": "x"},
    ],
)
def test_what_usage_once_said_is_not_taken_back(later):
    """Zeros, nothing, half a report or nonsense after a good report change nothing."""
    bad = json.dumps({"choices": [], "usage": later})
    content = data_event(chunk({"content": "x"}).encode())
    for first, second in ((usage_chunk(), bad), (bad, usage_chunk())):
        reader, _ = read(content, data_event(first.encode()), data_event(second.encode()))
        assert Usage(9, 4) == reader.usage


def test_only_usage_events_are_withheld():
    """A caller who asked for no usage still gets usage that rides with choices."""
    beside = chunk({"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 2})
    _, events = read(data_event(beside.encode()) + data_event(usage_chunk().encode()) + DONE)
    assert ["content", "done"] == [event.kind for event in without_usage(events)]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ('{"error": {"message": "boom", "code": 500}}', "boom"),
        ('{"error": "boom"}', "boom"),
        ('{"error": true, "message": "boom"}', "boom"),
        ('{"error": {"code": 429}, "choices": []}', "429"),
    ],
)
def test_errors_inside_a_stream_are_recognised(payload, message):
    """Whatever shape an error object has, the event is an error and its message is kept."""
    reader, events = read(data_event(payload.encode()))
    assert ["error"] == [event.kind for event in events]
    assert reader.error is not None
    assert message == reader.error["message"]
    assert {"message", "type", "param", "code"} == set(reader.error)


def test_an_event_named_error_is_an_error():
    """`event: error` makes any object an error."""
    reader, events = read(b'event: error\ndata: {"message": "boom"}\n\n')
    assert ["error"] == [event.kind for event in events]
    assert reader.error is not None
    assert "boom" == reader.error["message"]


@pytest.mark.parametrize("nothing", ["null", "false", '""', "{}"])
def test_an_empty_error_member_is_no_error(nothing):
    """Vendors that always send an `error` member mean something only if it is not empty."""
    assert ["other"] == kinds(f'{{"choices": [], "error": {nothing}}}')


@pytest.mark.parametrize("junk", ["hello", "5", "[1]", "{", '{"a":1}}', "[" * 100_000, "\x00"])
def test_data_that_is_no_object_is_garbage(junk):
    """Data that is not a JSON object is garbage, never an exception."""
    assert ["garbage"] == kinds(junk)


@pytest.mark.parametrize(
    "payload",
    [
        '{"choices": null}',
        '{"choices": {}}',
        '{"choices": [null, 1, {"delta": 5}]}',
        '{"usage": []}',
        '{"choices": [], "prompt_filter_results": []}',
    ],
)
def test_objects_of_unforeseen_shape_are_other(payload):
    """An object nobody foresaw is passed on, without an exception."""
    assert kinds(payload)[0] in {"other", "usage"}


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b""])
@pytest.mark.parametrize("piece", [1, 7, 5000])
def test_an_oversized_event_is_refused(end, piece):
    """An event beyond the limit raises, whether it comes whole, in pieces, or never ends."""
    reader = StreamReader(event_bytes_max=100)
    data = b"data: " + b"x" * 200 + end
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        for start in range(0, len(data), piece):
            reader.feed(data[start : start + piece])


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_framing_looks_at_each_byte_a_bounded_number_of_times(end, monkeypatch):
    """A large event in many small pieces is searched from where the last search ended."""
    searched = 0
    import merino.wire.splitting as splitting

    class Spy:
        def search(self, buffer, start):
            nonlocal searched
            searched += len(buffer) - start
            return pattern.search(buffer, start)

    pattern = splitting._EVENT_END
    monkeypatch.setattr(splitting, "_EVENT_END", Spy())
    reader = StreamReader()
    event = b"data: " + json.dumps({"x": "y" * 50_000}).encode() + end
    reader.feed(b"\r" if end[:1] == b"\r" else b"")
    events = [e for i in range(0, len(event), 10) for e in reader.feed(event[i : i + 10])]
    assert 1 == len(events)
    assert searched < 3 * len(event)


def test_builders_make_events_the_reader_understands():
    """What the relay writes itself reads back as what it is, in one event each."""
    reader, events = read(
        comment("keep\nalive")
        + data_event(b"{}")
        + error_event(b'{"error":{"message":"m"}}')
        + DONE
    )
    assert ["other", "error", "done"] == [event.kind for event in events]
    assert events[0].raw.startswith(b": keep alive\ndata: {}\n\n")
    assert reader.is_done
