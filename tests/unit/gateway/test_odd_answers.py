"""Answers and streams as upstreams really send them: what the caller gets, and who pays."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest
from tests.unit.gateway.test_lost_hedges import Stream, Upstreams
from tests.unit.gateway.test_pipeline import World

from merino.api.errors import status_of
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.metering import StreamLimits

DONE = b"data: [DONE]\n\n"
USED = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def event(delta=None, finish=None, index=0, **more) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"choices": [choice], **more}).encode()


def bare(obj) -> bytes:
    return b"data: %b\n\n" % json.dumps(obj).encode()


HELLO = event({"role": "assistant", "content": "hello"})
STOP = event(finish="stop")
SECOND = event({"content": "second"}), event(finish="stop", usage=USED), DONE


class Whole(Stream):
    """An answer in one piece."""

    headers = ((b"content-type", b"application/json"),)

    def __init__(self, body) -> None:
        super().__init__(ends=True)
        self.body = json.dumps(body).encode()

    def whole(self, bytes_max: int) -> bytes:
        return self.body


class Open(Stream):
    """A stream whose connection is kept open after its last piece."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces, ends=False)
        self.is_over = asyncio.Event()
        self.is_cut = False

    async def pipe(self, sink) -> None:
        for piece in self.pieces:
            sink(piece)
        await self.is_over.wait()

    def end(self) -> None:
        self.is_cut = True
        self.is_over.set()


def world(first, second=None) -> World:
    made = World("plain", "plain")
    following = Stream(*SECOND, ends=True) if second is None else second
    upstreams = Upstreams(d0=first, d1=following)
    made.pipeline._attempts = Attempts({"simulator": upstreams}, made.fleet, RetryPolicy())
    return made


def relayed(*pieces: bytes) -> tuple[bytes, World]:
    made = world(Stream(*pieces, ends=True))
    return made.run(stream=True).body, made


GOOD = {"choices": [{"message": {"content": "second"}, "finish_reason": "stop"}], "usage": USED}


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "no", "code": 400},
        {"base_resp": {"status_code": 1013, "status_msg": "internal"}, "choices": None},
        {
            "base_resp": {"status_code": 1013, "status_msg": "internal"},
            "choices": [],
            "usage": USED,
        },
        {"errors": [{"message": "no"}]},
        {"id": "c", "usage": USED},
        {"choices": {}},
        {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": ""}, "finish_reason": "error"}], "usage": USED},
        {"choices": [{"error": {"message": "a"}}, {"error": {"message": "b"}}]},
        {"choices": [{"message": {}, "finish_reason": None}], "usage": USED},
        {"choices": [{"message": {"content": None}, "finish_reason": "network_error"}]},
    ],
)
def test_a_whole_answer_that_is_none_fails_over(body) -> None:
    """Without a choice that did not fail there is no answer: the next one is asked, and only that
    one's is paid for."""
    made = world(Whole(body), Whole(GOOD))
    reply = made.run()
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "second"
    (record,) = made.ledger.records
    assert ("d1", 11, 5) == (record.deployment, record.input_tokens, record.output_tokens)


@pytest.mark.parametrize("error", [{}, {"code": 0, "message": ""}, {"code": None, "type": None}])
def test_an_error_that_says_there_is_none_takes_no_answer_away(error) -> None:
    """A whole answer beside an empty error is an answer."""
    made = world(Whole({**GOOD, "error": error}))
    made.run()
    assert "d0" == made.ledger.records[0].deployment


def test_one_choice_that_did_not_fail_is_an_answer() -> None:
    """Of several choices one is enough."""
    body = {"choices": [{"error": {"message": "a"}}, *GOOD["choices"]], "usage": USED}
    made = world(Whole(body))
    made.run()
    assert "d0" == made.ledger.records[0].deployment


@pytest.mark.parametrize(
    "pieces",
    [
        (bare({"choices": [], "usage": USED}), DONE),
        (bare({"choices": [], "usage": USED, "base_resp": {"status_code": 1}}), DONE),
        (bare({"object": "error", "message": "no"}), DONE),
        (bare({"error_code": 336, "error_msg": "busy"}), DONE),
        (b"event: error\ndata: overloaded\n\n",),
        (event(finish="error"), DONE),
        (bare({"choices": [{"index": 0, "delta": {}, "error": {"message": "died"}}]}), DONE),
        (event({"role": "assistant"}, usage=USED),),
        (DONE,),
    ],
)
def test_a_stream_without_an_answer_fails_over(pieces) -> None:
    """Errors in any vendor's words, or nothing but usage, are no answer."""
    body, made = relayed(*pieces)
    assert b"second" in body
    (record,) = made.ledger.records
    assert ("d1", 200, 5) == (record.deployment, record.status, record.output_tokens)


@pytest.mark.parametrize(
    ("pieces", "is_whole"),
    [
        ((HELLO, STOP), True),
        ((HELLO, DONE), True),
        ((HELLO, STOP, bare({"choices": [], "usage": USED})), True),
        ((HELLO, STOP, b'data: {"choices":[],"usa'), True),
        ((HELLO, bare({"choices": [], "usage": USED})), False),
        ((event({"content": "a"}, usage=USED), event({"content": "b"}, usage=USED)), False),
        ((HELLO, event({"content": "b"}, index=1), STOP), False),
        ((HELLO, event({"content": "b"}, index=1), STOP, event(finish="stop", index=1)), True),
        ((HELLO, b'data: {"choices":[{"del'), False),
    ],
)
def test_a_stream_is_complete_by_its_end_or_its_finish_reasons(pieces, is_whole) -> None:
    """`[DONE]`, or a finish reason of every choice seen; that usage came says nothing."""
    made = world(Stream(*pieces, ends=True))
    reply = made.run(stream=True)
    assert is_whole == (reply.error is None)
    assert is_whole == reply.body.endswith(DONE)


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b"\r"])
def test_an_unterminated_last_event_is_terminated(tail) -> None:
    """What follows it is an event of its own."""
    body, _ = relayed(HELLO, STOP[:-2] + tail)
    assert body.endswith(DONE)
    assert json.loads(body.removesuffix(DONE).split(b"data: ")[-1])["choices"]
    assert body.removesuffix(DONE)[-2:] in (b"\n\n", b"\r\n\n"[-2:])


@pytest.mark.parametrize(
    "heartbeat",
    [
        b"data:\n\n",
        b"data: \n\n",
        b"data\n\n",
        b"event: ping\ndata:\n\n",
        b"event: heartbeat\ndata: alive\n\n",
        b"event: keepalive\ndata: 1700000000\n\n",
        b": ping\n\n",
        b"id: 9\n\n",
    ],
)
def test_a_heartbeat_is_no_event(heartbeat) -> None:
    """Before, in and after an answer: no blank line and no data of it reaches the caller."""
    body, made = relayed(heartbeat, HELLO, heartbeat, STOP, heartbeat, DONE)
    assert "d0" == made.ledger.records[0].deployment
    blocks = [block for block in body.split(b"\n\n") if block]
    assert 3 == len(blocks)
    assert all(b"data: " in block for block in blocks)


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAAA"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"thinking_blocks": [{"thinking": "hm"}], "content": ""},
        {"role": "assistant", "a_name_of_next_year": "hm"},
        {"images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]},
    ],
)
def test_whatever_a_model_produces_begins_the_answer(delta) -> None:
    """Any member beside the role that is not empty flows at once, under whatever name."""
    made = world(Stream(event(delta), bare({"error": {"message": "died"}}), ends=True))
    reply = made.run(stream=True)
    assert reply.has_begun
    assert "StreamBroken" == type(reply.error).__name__
    assert made.ledger.records[0].output_tokens >= 1


def test_an_answer_ends_at_its_last_event() -> None:
    """An upstream that keeps its connection open delays nobody, and is left."""

    async def watched(scenario) -> None:
        sweeping = asyncio.create_task(made.pipeline._watchdog.run())
        await scenario()
        sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeping

    kept_open = Open(HELLO, STOP, DONE)
    made = world(kept_open)
    reply = made.run(stream=True, around=watched)
    assert reply.error is None
    assert reply.body.endswith(DONE)
    assert kept_open.is_cut
    assert 200 == made.ledger.records[0].status


def test_what_waits_for_content_is_bounded() -> None:
    """An upstream that sends objects without an answer in them is left at the limit."""
    made = world(Stream(*[event({"role": "assistant"})] * 100, HELLO, STOP, DONE, ends=True))
    made.pipeline._stream_limits = StreamLimits(event_bytes_max=2000)
    assert b"second" in made.run(stream=True).body


def test_too_large_an_event_names_itself() -> None:
    """Its code says that it was too large, so that it is not bought again."""
    made = world(Stream(event({"content": "x" * 3000}), ends=True))
    made.pipeline._stream_limits = StreamLimits(event_bytes_max=2000)
    reply = made.run(stream=True)
    if reply.error is not None:
        assert (502, "upstream_event_too_large") == (status_of(reply.error), reply.error.code)
    assert "UpstreamBroken" == made.ledger.records[0].attempts[0].outcome


def test_an_event_is_not_a_token() -> None:
    """A character an event, within the hold: nobody is cut off for the number of events."""
    pieces = [event({"content": "a"}) for _ in range(300)]
    made = World("plain", posted=1100)
    used = {"prompt_tokens": 11, "completion_tokens": 75, "total_tokens": 86}
    upstreams = Upstreams(d0=Stream(*pieces, event(finish="stop", usage=used), DONE, ends=True))
    made.pipeline._attempts = Attempts({"simulator": upstreams}, made.fleet, RetryPolicy())
    reply = made.run(stream=True)
    assert reply.error is None
    assert ("reported", 75) == (
        made.ledger.records[0].usage_source,
        made.ledger.records[0].output_tokens,
    )


def test_more_text_than_is_paid_for_is_not_passed_on() -> None:
    """The stream is stopped before it, and the account never goes below zero."""
    made = World("plain", posted=300)
    pieces = [event({"content": "words " * 40}) for _ in range(50)]
    upstreams = Upstreams(d0=Stream(*pieces, STOP, DONE, ends=True))
    made.pipeline._attempts = Attempts({"simulator": upstreams}, made.fleet, RetryPolicy())
    reply = made.run(stream=True)
    assert "insufficient_quota" == reply.error.code
    assert made.ledger.posted >= 0


@pytest.mark.parametrize("size", [100, 400_000])
@pytest.mark.parametrize("field", ["content", "reasoning_content", "tool_calls"])
def test_an_upstream_that_obeys_no_limit_does_not_use_up_the_credit(field, size) -> None:
    """Its stream is cut far beyond the limit, billed so far, told to the operator; others may
    still use it."""
    text: object = "x" * size
    if field == "tool_calls":
        text = [{"index": 0, "function": {"arguments": text}}]
    made = World("plain", posted=10**12)
    endless = Stream(*[event({field: text})] * (2_000_000 // size), STOP, DONE, ends=True)
    made.pipeline._attempts = Attempts(
        {"simulator": Upstreams(d0=endless)}, made.fleet, RetryPolicy()
    )
    made.alias = replace(made.alias, output_tokens_max=50)
    reply = made.run(stream=True)
    (record,) = made.ledger.records
    assert "upstream_limit_ignored" == reply.error.code
    assert 8_692 <= record.output_tokens <= 13_000
    assert ["runaway"] == [odd.oddity for odd in made.pipeline.oddities.alarming()]
    assert made.fleet.get("d0").breaker.state == "closed"


def test_no_secret_stands_around_an_event() -> None:
    """Neither in comments nor in ids, of the first event, a later one, or `[DONE]`."""
    secret = b"cr3d-Zq8vLw2mXo91kd"
    around = b": to %b\nid: %b\n" % (secret, secret)
    pieces = around + HELLO, around + event({"content": " you"}), STOP, around + DONE
    made = world(Stream(*pieces, ends=True))
    first = replace(made.alias.deployments[0], credential=secret.decode())
    made.alias = replace(made.alias, deployments=(first,))
    made.fleet.keep([first])
    reply = made.run(stream=True)
    told = reply.body
    assert reply.error is None
    assert b" you" in told
    assert secret not in told


@pytest.mark.parametrize("depth", [300, 600, 900])
@pytest.mark.parametrize("stream", [True, False])
def test_content_may_be_nested_as_deep_as_it_likes(depth, stream) -> None:
    """It is measured, or the answer is none; the call never crashes."""
    nested: object = "deep"
    for _ in range(depth):
        nested = [nested]
    if stream:
        first: Stream = Stream(event({"content": nested}), STOP, DONE, ends=True)
        second = None
    else:
        first, second = Whole({"choices": [{"message": {"content": nested}}]}), Whole(GOOD)
    made = world(first, second)
    assert made.run(stream=stream).error is None
    assert "internal_error" != made.ledger.records[0].error_code


def test_usage_that_cannot_be_is_an_alarm_and_stays_with_the_call() -> None:
    """Billed is what was seen; what was said is in the record, and the operator is told."""
    said = {"prompt_tokens": 11, "completion_tokens": 4_000_000, "total_tokens": 4_000_011}
    made = world(Stream(HELLO, event(finish="stop", usage=said), DONE, ends=True))
    made.run(stream=True)
    (record,) = made.ledger.records
    assert ("disbelieved", 2) == (record.usage_source, record.output_tokens)
    assert 4_000_000 == json.loads(record.reported_usage)["output_tokens"]
    (odd,) = made.pipeline.oddities.alarming()
    assert ("d0", "impossible", 1, record.id) == (
        odd.deployment,
        odd.oddity,
        odd.count,
        odd.call_id,
    )


def test_files_in_text_are_no_text() -> None:
    """A picture inside the text of an answer is not billed by its letters."""
    picture = "![](data:image/png;base64,%s)" % ("iVBOR" * 20_000)
    used = {"prompt_tokens": 11, "completion_tokens": 290, "total_tokens": 301}
    made = world(Stream(event({"content": picture}), event(finish="stop", usage=used), ends=True))
    made.run(stream=True)
    assert ("reported", 290) == (
        made.ledger.records[0].usage_source,
        made.ledger.records[0].output_tokens,
    )


@pytest.mark.parametrize("are_together", [False, True])
@pytest.mark.parametrize(
    "trouble",
    [b"data: oops\n\n", bare({"error": {"message": "died"}}), b"event: error\ndata: x\n\n"],
)
def test_trouble_counts_though_the_end_came_with_it(trouble, are_together) -> None:
    """Trouble fails an attempt, or breaks the stream, however much of it came in one read."""
    for pieces, is_elsewhere in (
        ((trouble, HELLO, STOP, DONE), True),
        ((HELLO, trouble, STOP, DONE), False),
    ):
        body, made = relayed(*((b"".join(pieces),) if are_together else pieces))
        (record,) = made.ledger.records
        assert is_elsewhere == (b"second" in body)
        assert "d1" if is_elsewhere else "d0" == record.deployment
        assert is_elsewhere == (record.error_code is None)
        assert is_elsewhere == body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("late", [b"data: oops\n\n", bare({"error": {"message": "late"}})])
@pytest.mark.parametrize("are_together", [False, True])
def test_what_follows_the_end_of_every_choice_takes_nothing_away(late, are_together) -> None:
    """An answer whose choices are all at their end is whole, whatever is said after it."""
    pieces = (HELLO, STOP, late, bare({"choices": [], "usage": USED}), DONE)
    body, made = relayed(*((b"".join(pieces),) if are_together else pieces))
    (record,) = made.ledger.records
    assert ("d0", 200, None, 5) == (
        record.deployment, record.status, record.error_code, record.output_tokens,
    )  # fmt: skip
    assert late not in body


@pytest.mark.parametrize(
    "last", [b"data: [done]\n\n", b'data: "[DONE]"\n\n', b"data: [DONE]\r\n\r\n"]
)
def test_the_end_is_known_however_it_is_written(last) -> None:
    """Without a finish reason, too; and callers get it in the way that they know."""
    body, made = relayed(HELLO, last)
    assert made.ledger.records[0].error_code is None
    assert body.splitlines()[-2:] == [b"data: [DONE]", b""] or body.endswith(b"[DONE]\r\n\r\n")
