"""The reader of streams beside a slow and plain one, written from the standard's words.

https://html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream".
"""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from merino.wire.sse import StreamReader, comment_lines, terminated


def standard(stream: bytes) -> list[tuple[str, str]]:
    """Name and data of every event, a character at a time. As clients do, an event whose data is
    empty is none, and what follows the last blank line is one as well."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines, line, position = [], "", 0
    while position < len(text):
        character = text[position]
        if character in "\r\n":
            lines.append(line)
            line = ""
            if text[position : position + 2] == "\r\n":
                position += 1
        else:
            line += character
        position += 1
    lines += [line, ""]
    found, data, name = [], "", ""
    for line in lines:
        if not line:
            if data.strip():
                found.append((name, data[:-1]))
            data = name = ""
        elif not line.startswith(":"):
            field, colon, value = line.partition(":")
            value = value[1:] if colon and value.startswith(" ") else value
            if field == "data":
                data += value + "\n"
            elif field == "event":
                name = value
    return found


ends = st.sampled_from(["\n", "\r\n", "\r"])
chunks = st.builds(
    lambda text, index: json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}),
    st.text(max_size=8),
    st.integers(0, 2),
)
fields = st.one_of(
    chunks.map(lambda each: f"data: {each}"),
    chunks.map(lambda each: f"data:{each}"),
    st.sampled_from(
        [
            "",
            "",
            ":",
            ": a comment",
            "id: 7",
            "id",
            "retry: 10",
            "event: ping",
            "event: message",
            "data",
            "data:",
            'data: {"choices":',
            "data: []}",
            "data: [DONE]",
            "unknown: x",
            " data: {}",
        ]
    ),
)
streams = st.lists(st.tuples(fields, ends), max_size=14).map(
    lambda lines: "".join(line + end for line, end in lines)
)


def of_one(name: str, data: str) -> str:
    """How the reader judges an event that stands alone, in the plainest form."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    (event,) = StreamReader().feed(f"event: {name}\n{lines}\n".encode())
    return event.kind


@given(
    stream=streams,
    mark=st.booleans(),
    tail=st.sampled_from(["", "data: {}", "data", ": x", "\r", "id: 4"]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
@example(stream="data: {}\r\r\ndata: {}\r\n\r", mark=True, tail="", cuts=[9, 10])
def test_the_events_are_those_of_the_standard(stream, mark, tail, cuts) -> None:
    """However it is cut and whatever ends its lines, each event is found, once, and judged as if it
    stood alone."""
    whole = (b"\xef\xbb\xbf" if mark else b"") + (stream + tail).encode("utf-8", "surrogatepass")
    reader = StreamReader()
    points = sorted({min(cut, len(whole)) for cut in cuts})
    events = []
    for begin, end in zip([0, *points], [*points, len(whole)], strict=True):
        events += reader.feed(whole[begin:end])
    events += reader.finish()
    assert whole == b"".join(event.raw for event in events)
    kinds = [event.kind for event in events if event.kind != "comment"]
    expected = [of_one(name, data) for name, data in standard(whole)]
    assert [kind for kind in expected if kind != "comment"] == kinds


@given(
    stream=streams, tail=st.sampled_from(["data: {}", "data: {}\r", "data: {}\r\n", "data: {}\n"])
)
def test_what_is_terminated_stays_one_event(stream, tail) -> None:
    """A blank line is put after an event that lacks it, and only then: what comes next is apart."""
    raw = (stream + tail).encode("utf-8", "surrogatepass")
    before = standard(raw)
    assert [*before, ("", "next")] == standard(terminated(raw) + b"data: next\n\n")
    ended = terminated(raw)
    assert ended == terminated(ended)


@given(stream=streams)
def test_comments_are_passed_on_without_a_blank_line(stream) -> None:
    """Nothing but comment lines is left, each ended once."""
    left = comment_lines(stream.encode("utf-8", "surrogatepass"))
    lines = left.split(b"\n")
    assert b"" == lines.pop()
    assert all(line.startswith(b":") for line in lines)
