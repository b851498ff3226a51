"""An endpoint is one value: a made-up one is planned, held for, relayed and settled like any other."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Any, cast

import pytest
from tests.unit.gateway.test_lost_hedges import Stream
from tests.unit.gateway.test_pipeline import KEY, FakeReply, World

from merino.domain.usage import Usage
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.wire.endpoints import Endpoint
from merino.wire.fields import model_of, parse_fields
from merino.wire.request import ModelRequest
from merino.wire.splitting import Event
from merino.wire.usage import ChatResult

LAST = b"event: fin\ndata: {}\n\n"


class Whole(Stream):
    """An answer in one piece."""

    headers = ((b"content-type", b"application/json"),)

    def whole(self, bytes_max: int) -> bytes:
        return b"".join(self.pieces)


class Upstream:
    """Keeps what it is asked, and answers always the same."""

    def __init__(self, answer: Stream) -> None:
        self.answer = answer
        self.requests = []

    async def send(self, request) -> Any:
        self.requests.append(request)
        return self.answer


class ToyReader:
    """Events are lines `say: TEXT`; `sum: N` tells the tokens and ends the answer."""

    failure = finish_reason = service_tier = usage = None
    ending = final = b""
    sealed = units = ()
    reasoning_bytes = wide_bytes = output_bytes = 0
    has_content = is_complete = has_finished = False

    def __init__(self, event_bytes_max: int) -> None:
        self.held = b""

    def feed_one(self, data: bytes):
        return None

    def feed(self, data: bytes) -> list[Event]:
        *lines, self.held = (self.held + data).split(b"\n")
        return [Event(line + b"\n", self.read(line)) for line in lines]

    def read(self, line: bytes):
        kind, _, text = line.partition(b": ")
        if kind == b"say":
            self.output_bytes += len(text)
            self.has_content = True
            return "content"
        self.usage = Usage(input_tokens=3, output_tokens=int(text))
        self.finish_reason = "stop"
        self.is_complete = self.has_finished = True
        return "usage"

    def finish(self) -> list[Event]:
        return []


def parse(body: bytes) -> ModelRequest:
    fields = parse_fields(body)
    request = ModelRequest(TOY, model_of(fields.get("model")), fields, body)
    request.stream = bytes(fields["flow"]) == b"true"
    return request


def read_answer(body: bytes) -> ChatResult:
    answer = json.loads(body)
    used = Usage(input_tokens=3, output_tokens=answer["used"])
    return ChatResult(used, "stop", len(answer["text"]), has_content=True)


TOY = Endpoint(
    "toys",
    parse,
    read_answer,
    cast("Any", ToyReader),
    limit_name="words_max",
    last_event=LAST,
    error_event=lambda body, _: b"oops: " + body + b"\n",
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_made_up_endpoint_needs_nothing_but_itself(stream) -> None:
    """It names the path upstream, reads what was used, ends its streams in its own way, and its
    output is limited under its own name."""
    answer = b"say: ho ho\nsum: 7\n" if stream else b'{"text":"ho ho","used":7}'
    world = World("plain", posted=500)  # too little for all that the model may say
    upstream = Upstream((Stream if stream else Whole)(answer, ends=True))
    world.pipeline._attempts = Attempts({"simulator": upstream}, world.fleet, RetryPolicy())
    body = b'{"model":"a","flow":%b}' % (b"true" if stream else b"false")
    reply = FakeReply(world.journal)

    async def scene() -> None:
        call = Call(new_call_id(), KEY, parse(body), world.alias, perf_counter(), body)
        await world.pipeline.run(call, reply)

    asyncio.run(scene())
    assert reply.error is None
    sent = upstream.requests[0]
    assert "toys" == sent.endpoint
    assert 1 <= json.loads(sent.body)["words_max"] < 1000
    record = world.ledger.records[0]
    assert ("toys", "reported", 3, 7) == (
        record.endpoint,
        record.usage_source,
        record.input_tokens,
        record.output_tokens,
    )
    assert reply.body == (b"say: ho ho\n" + LAST if stream else answer)
