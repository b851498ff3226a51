"""What the relay says in an upstream's answer is said in the few events that bring the whole
response, however the stream is cut into pieces; the rest passes byte for byte."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.gateway.rewriting import RewrittenResponse, rewritten

ITEM = {"type": "message", "response": 1}
CHANGES = {"store": msgspec.Raw(b"true"), "previous_response_id": msgspec.Raw(b'"resp_0"')}


def event(name: str, end: str = "\n", **members: object) -> bytes:
    data = json.dumps({"type": name, **members})
    return f"event: {name}{end}data: {data}{end}{end}".encode()


def response(status: str) -> dict[str, object]:
    said = [] if status == "in_progress" else [ITEM]
    common = {"id": "resp_1", "object": "response", "status": status, "output": said}
    return {**common, "store": False, "n": 1.50}


class Pieces:
    """An upstream's answer in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def pipe(self, sink) -> None:
        for piece in self.pieces:
            sink(piece)


def piped(pieces: list[bytes]) -> bytes:
    found: list[bytes] = []
    asyncio.run(RewrittenResponse(Pieces(pieces), CHANGES).pipe(found.append))  # type: ignore[arg-type]
    return b"".join(found)


DELTAS = (
    event("response.output_text.delta", delta='a "response": b'),
    b": a comment\n\n",
    event("response.output_item.done", item=ITEM),
)


@given(st.lists(st.integers(0, 700), max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_any_cut_of_a_stream_is_told_the_same(cuts, end) -> None:
    """Every response object has what the relay says, and no other byte differs."""
    begun = event("response.created", end, response=response("in_progress"))
    ended = event("response.completed", end, response=response("completed"))
    data = begun + b"".join(DELTAS) + ended + b"data: [DONE]\n\n"
    places = sorted({min(each, len(data)) for each in cuts} | {0, len(data)})
    told = piped([data[a:b] for a, b in pairwise(places)])
    assert b"".join(DELTAS) in told
    assert told.endswith(b"data: [DONE]\n\n")
    objects = [
        json.loads(line.removeprefix(b"data: "))["response"]
        for line in told.splitlines()
        if line.startswith(b"data: {") and b'"resp_1"' in line
    ]
    assert [
        {**response(status), "store": True, "previous_response_id": "resp_0"}
        for status in ("in_progress", "completed")
    ] == objects


@pytest.mark.parametrize(
    "body", [b"not json", b"[1]", b'{"object":"response.compaction"}', b'{"error":{"code":"a"}}']
)
def test_what_is_no_response_stays_as_it_is(body) -> None:
    """Errors, compactions and garbage are the upstream's own."""
    assert body == rewritten(body, CHANGES)


@pytest.mark.parametrize("without", [{"output": []}, {"output": None}, {}])
def test_items_that_the_last_event_leaves_out_are_filled_in(without) -> None:
    """Some servers tell each item and then a response without any: what is kept, and what clients
    put together from it, has what was said."""
    bare = {"id": "resp_1", "object": "response", "status": "completed", **without}
    other = {"type": "function_call", "name": "look_up"}
    data = [
        event("response.output_item.done", output_index=0, item=ITEM),
        event("response.output_item.done", output_index=1, item=other),
        event("response.completed", response=bare),
    ]
    told = piped(data)
    assert [ITEM, other] == json.loads(told.split(b"data: ")[-1])["response"]["output"]
