"""The stream of the Responses API is metered as it goes by, however it is cut into reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.responses import Response, ResponseFailedEvent, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.lengths import cuts

from merino.domain.usage import Usage
from merino.simulator.playback import Simulation
from merino.simulator.steps import Bytes
from merino.wire.response_events import ENDINGS, ResponseReader, failed_events

EVENTS = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
CUSTOM = {"type": "custom", "name": "apply_patch"}
KINDS = {
    "text": {},
    "thinking": {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]},
    "call": {"tools": [TOOL], "tool_choice": "required"},
    "custom": {"tools": [CUSTOM], "tool_choice": "required"},
    "incomplete": {"max_output_tokens": 20},
    "unpadded": {"stream_options": {"include_obfuscation": False}},
}


def streamed(model: str = "o3!reasoning=64", **more) -> bytes:
    body = {"model": model, "input": 'Say "hey" ünd\nmore', "stream": True, **more}
    steps = Simulation().steps("responses", json.dumps(body).encode())
    return b"".join(each.data for each in steps if isinstance(each, Bytes))


def read(*pieces: bytes) -> tuple[ResponseReader, list]:
    reader = ResponseReader()
    events = []
    for piece in pieces:
        kind = reader.feed_one(piece)
        events += [(piece, kind)] if kind else [(e.raw, e.kind) for e in reader.feed(piece)]
    events += [(each.raw, each.kind) for each in reader.finish()]
    return reader, events


def seen(reader: ResponseReader) -> tuple:
    return (
        reader.usage, reader.output_bytes, reader.wide_bytes, reader.reasoning_bytes,
        reader.chunks, reader.has_content, reader.finish_reason, reader.is_complete,
        reader.id, reader.sequence_number,
    )  # fmt: skip


def event(kind: str, **members) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


@pytest.mark.parametrize("kind", KINDS)
def test_wherever_a_stream_is_cut_into_reads_the_same_is_read(kind) -> None:
    """Two reads, parted anywhere, say what one says, and no byte is lost."""
    stream = streamed(**KINDS[kind])
    whole, events = read(stream)
    for at in cuts(stream):
        reader, found = read(stream[:at], stream[at:])
        assert seen(whole) == seen(reader)
        assert stream == b"".join(raw for raw, _ in found)
    assert stream == b"".join(raw for raw, _ in events)


@pytest.mark.parametrize("kind", KINDS)
def test_undecoded_events_count_as_decoded_ones(kind) -> None:
    """What is learned of one event gives of the next ones what decoding them gives."""
    stream = streamed(**KINDS[kind])
    reader, events = read(*(each + b"\n\n" for each in stream.split(b"\n\n")[:-1]))
    plain = ResponseReader()
    plain._learns_left = 0
    assert [kind for _, kind in events] == [each.kind for each in plain.feed(stream)]
    assert seen(plain) == seen(reader)


@pytest.mark.parametrize("kind", KINDS)
def test_the_packages_types_take_every_event(kind) -> None:
    """Every event fits its strict type, and the last one's object is a strict response."""
    found = list(SSEDecoder().iter_bytes(iter([streamed(**KINDS[kind])])))
    for each in found:
        if each.data != "[DONE]":
            EVENTS.validate_json(each.data, strict=True)
    Response.model_validate_json(json.dumps(json.loads(found[-2].data)["response"]), strict=True)


def test_usage_comes_from_the_last_event_and_its_padding_is_not_text() -> None:
    """Padding counts nothing, the summary only until something was reported."""
    stream = streamed(**KINDS["thinking"])
    reader, events = read(stream)
    assert Usage(reader.usage.input_tokens, reader.usage.output_tokens, reasoning_tokens=64) == (
        reader.usage
    )
    text = [json.loads(raw.split(b"data: ")[1])["delta"]
            for raw, _ in events if b".output_text.delta" in raw]  # fmt: skip
    assert len("".join(text).encode()) == reader.output_bytes
    assert 0 == reader.reasoning_bytes
    cut, _ = read(stream[: stream.index(b"event: response.completed")])
    assert cut.reasoning_bytes > 20
    assert not cut.is_complete


@given(
    texts=st.lists(st.text(min_size=1), min_size=1, max_size=12),
    padding=st.lists(st.text(st.sampled_from('ab"\\ é')), min_size=12, max_size=12),
    is_escaped=st.booleans(),
)
def test_any_text_counts_its_own_bytes(texts, padding, is_escaped) -> None:
    """Quotes, escapes, emoji and whatever looks like an event count as what they stand for."""
    stream = [
        "event: response.output_text.delta\ndata: {}\n\n".format(
            json.dumps(
                {
                    "type": "response.output_text.delta",
                    "sequence_number": number,
                    "item_id": "msg_1",
                    "output_index": 0,
                    "content_index": 0,
                    "delta": text,
                    "logprobs": [],
                    "obfuscation": pad,
                },
                ensure_ascii=is_escaped,
            )
        ).encode("utf-8", "surrogatepass")
        for number, (text, pad) in enumerate(zip(texts, padding, strict=False))
    ]
    reader, events = read(*stream)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    assert size == reader.output_bytes
    assert size - sum(map(len, texts)) == reader.wide_bytes
    assert ["content"] * len(texts) == [kind for _, kind in events]


FORMS = {
    "as OpenAI writes": lambda number, text: {
        "type": "response.output_text.delta",
        "sequence_number": number,
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "logprobs": [],
    },
    "as vLLM writes": lambda number, text: {
        "content_index": 0,
        "delta": text,
        "item_id": "msg_1",
        "logprobs": [],
        "output_index": 0,
        "sequence_number": number,
        "type": "response.output_text.delta",
    },
}


@pytest.mark.parametrize("form", FORMS)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=12),
    is_ascii=st.booleans(),
)
def test_events_of_a_usual_form_count_as_any_other(form, texts, is_ascii) -> None:
    """What is known by its form alone, whichever comes first, is counted like the same event in
    other words, which has to be decoded."""

    def stream(separators: tuple[str, str]) -> list[bytes]:
        data = [
            json.dumps(FORMS[form](number, text), ensure_ascii=is_ascii, separators=separators)
            for number, text in enumerate(texts)
        ]
        return [f"event: response.output_text.delta\ndata: {each}\n\n".encode() for each in data]

    usual, kinds = read(*stream((",", ":")))
    other, others = read(*stream((" , ", " : ")))
    assert seen(other) == seen(usual)
    assert [kind for _, kind in others] == [kind for _, kind in kinds]
    whole, of_whole = read(b"".join(stream((",", ":"))))
    assert (seen(usual), kinds) == (seen(whole), of_whole)


def test_items_without_pieces_count() -> None:
    """An upstream that sends calls and texts only whole is not read as silent."""
    call = {"type": "function_call", "name": "f", "arguments": '{"a":1}', "call_id": "c"}
    reader, events = read(
        event("response.output_item.added", item={**call, "arguments": ""}),
        event("response.output_item.done", item=call),
    )
    assert ["content", "content"] == [kind for _, kind in events]
    assert len('f{"a":1}') == reader.output_bytes


@pytest.mark.parametrize(
    ("response", "finish_reason"),
    [
        ({"status": "completed"}, "completed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
         "content_filter"),
        ({"status": "cancelled"}, "cancelled"),
        ({}, "completed"),
    ],
)  # fmt: skip
def test_the_objects_own_status_counts(response, finish_reason) -> None:
    """Servers that call every end `completed` are not believed."""
    reader, events = read(event("response.completed", response=response))
    assert ("done", True) == (events[0][1], reader.is_complete)
    assert finish_reason == reader.finish_reason


def test_a_failure_is_an_error_unless_it_is_all_there_is_to_pay() -> None:
    """`response.failed` is an error with its code; with use and nothing seen, it is the answer."""
    failed = {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Slow."}}
    reader, events = read(event("response.failed", response=failed))
    assert "error" == events[0][1]
    assert "rate_limit_exceeded" == reader.failure["error"]["code"]
    usage = {"input_tokens": 5, "output_tokens": 9, "total_tokens": 14}
    reader, events = read(event("response.failed", response={**failed, "usage": usage}))
    assert ("done", "failed", 9) == (
        events[0][1], reader.finish_reason, reader.usage.output_tokens,
    )  # fmt: skip
    reader, events = read(
        event("response.output_text.delta", delta="Hi"),
        event("response.failed", response={**failed, "usage": usage}),
    )
    assert "error" == events[1][1]
    assert 9 == reader.usage.output_tokens


def test_errors_come_in_two_shapes() -> None:
    """The members of an `error` event lie at its top or in its `error`."""
    for members in ({"code": "c", "message": "m"}, {"error": {"code": "c", "message": "m"}}):
        reader, events = read(event("error", sequence_number=3, **members))
        assert "error" == events[0][1]
        assert ("c", "m") == (reader.error["code"], reader.error["message"])


def test_the_relays_own_end_of_a_failed_stream_goes_on_where_it_was() -> None:
    """It echoes the response that was begun, counts on, and ends once, in types that fit."""
    body = json.dumps({"error": {"message": "Broken. Try again in 2s.", "type": "server_error",
                                 "param": None, "code": "rate_limit_exceeded"}}).encode()  # fmt: skip
    stream = streamed()
    reader, _ = read(stream[: len(stream) // 2].rpartition(b"\n\n")[0] + b"\n\n")
    for known in (reader, None, ResponseReader()):
        found = list(SSEDecoder().iter_bytes(iter([failed_events(body, known)])))
        error, failed = (EVENTS.validate_json(each.data, strict=True) for each in found)
        assert isinstance(failed, ResponseFailedEvent)
        assert ["error", "response.failed"] == [error.type, failed.type]
        assert "rate_limit_exceeded" == json.loads(found[1].data)["response"]["error"]["code"]
        if known is reader:
            assert reader.id == failed.response.id
            assert reader.sequence_number + 1 == error.sequence_number
    assert "error" not in ENDINGS


def test_an_upstreams_own_failed_event_is_the_only_end() -> None:
    """Where the upstream ended the stream itself, nothing is made up beside it."""
    end = event("response.failed", response={"status": "failed"})
    reader, _ = read(event("response.output_text.delta", delta="Hi"), end)
    assert end == failed_events(b"{}", reader)


def test_an_answer_ends_once() -> None:
    """What a server sends behind its last event is no event of the answer, nor a second end."""
    data = streamed(**KINDS["text"])
    ended = next(each for each in data.split(b"\n\n") if b"response.completed" in each) + b"\n\n"
    _, events = read(data.removesuffix(b"data: [DONE]\n\n"), ended, b"data: [DONE]\n\n")
    kinds = [kind for raw, kind in events if b"response.completed" in raw]
    assert ["done", "comment"] == kinds


def test_an_unended_last_event_is_known() -> None:
    """The last event without its blank line is told from a half one."""
    stream = streamed()
    at = stream.index(b"event: response.completed")
    end = stream[at:].partition(b"\n\n")[0]
    reader, _ = read(stream[:at])
    reader.feed(end[:-5])
    assert not reader.is_at_done
    reader.feed(end[-5:])
    assert reader.is_at_done
