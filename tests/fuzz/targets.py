"""The two things that are fuzzed: what an upstream sends, and what a caller sends.

An input is a line of control bytes and then the bytes themselves, so that seeds can be read and
written by hand; each control byte picks from a small table, and a missing one is 0.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from tests.fuzz.framing import Answer, Misframed, read_answers
from tests.fuzz.virtual import Pipe
from tests.fuzz.world import CREDENTIAL, HEADER_SECRET, Broken, CallRecord, World

CONTROLS = 8
PIECES_MAX = 400
KEYS = (b"mk-rich", b"mk-poor")
"""Stand for the keys of the two accounts in what a caller sends."""


def _body(text: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"Say hello."}]' + text + b"}"


REQUESTS: list[tuple[bytes, bytes, bytes]] = [
    # Path, key, body.
    (b"chat/completions", KEYS[0], _body(b',"stream":true')),
    (b"chat/completions", KEYS[0], _body(b"")),
    (
        b"chat/completions",
        KEYS[0],
        _body(b',"stream":true,"stream_options":{"include_usage":true},"max_tokens":50'),
    ),
    (b"embeddings", KEYS[0], b'{"model":"m","input":["one","two"]}'),
    (b"chat/completions", KEYS[0], _body(b',"stream":true,"n":2')),
    (b"chat/completions", KEYS[1], _body(b',"stream":true')),
    (b"chat/completions", KEYS[1], _body(b',"max_completion_tokens":20')),
    (
        b"chat/completions",
        KEYS[0],
        (
            b'{"model":"thinks","messages":[{"role":"user","content":"Hm?"}],"stream":true,'
            b'"temperature":0.5,"reasoning_effort":"low"}'
        ),
    ),
]

GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(
        body := b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":'
        b'[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
    ),
    body,
)
_EVENTS = (
    (
        b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":"Hello."},"finish_reason":null}]}'
    ),
    (
        b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{},"finish_reason":"stop"}]}'
    ),
    (
        b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
    ),
    b"[DONE]",
)
GOOD_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + (
    b"".join(b"data: %b\n\n" % event for event in _EVENTS)
)


def controls(data: bytes) -> tuple[list[int], bytes]:
    line, _, rest = data.partition(b"\n")
    given = [byte % 32 for byte in line[:CONTROLS]]
    return given + [0] * (CONTROLS - len(given)), rest


def pieces_of(data: bytes, choice: int) -> list[bytes]:
    """Cut whole, at every `\\n\\n`, or into as many bytes as the choice says."""
    if choice == 0 or not data:
        return [data] if data else []
    if choice == 1:
        return [piece for piece in re.split(rb"(?<=\n\n)", data) if piece]
    size = max(choice - 1, len(data) // PIECES_MAX + 1)
    return [data[at : at + size] for at in range(0, len(data), size)]


# -- what an upstream sends -----------------------------------------------------------------------

STATUSES = (0, 1, 200, 400, 401, 402, 403, 404, 422, 429, 500, 503, 529)
"""0: the bytes are the whole answer, head and all. 1: a stream with status 200. Else: JSON."""
ENDINGS = ("close", "open", "reset", "stay")
"""After the last byte: an orderly end, nothing at all, a reset, or (in chunks) a proper last one."""
PAUSES_S = (0.0, 0.0, 0.001, 0.6, 1.5)


class Upstream:
    """Plays the same script for each request that it gets."""

    def __init__(self, world: World, data: bytes) -> None:
        given, rest = controls(data)
        self.request = REQUESTS[given[0] % len(REQUESTS)]
        status = STATUSES[given[1] % len(STATUSES)]
        self._ending = ENDINGS[given[2] % len(ENDINGS)]
        self._pause_s = PAUSES_S[given[3] % len(PAUSES_S)]
        self.leaves_after = given[5]
        self._is_good_later = given[6] % 4 == 1
        self._is_stream = b'"stream":true' in self.request[2]
        pieces = pieces_of(rest, given[4])
        if status:
            kind = b"text/event-stream" if status == 1 else b"application/json"
            head = b"HTTP/1.1 %d Said\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % (
                200 if status == 1 else status,
                kind,
            )
            pieces = [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)]
            if self._ending == "stay":
                pieces.append(b"0\r\n\r\n")
        self._pieces = pieces
        self._world = world
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()
        world.loop.on_connect = self._connected

    def _connected(self, pipe: Pipe) -> None:
        asked = bytearray()

        def on_write(data: bytes) -> None:
            asked.extend(data)
            head_end = asked.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = int(re.search(rb"content-length: (\d+)", asked)[1])
            if len(asked) < head_end + 4 + length:
                return
            del asked[: head_end + 4 + length]
            self._requests += 1
            task = self._world.loop.create_task(self._play(pipe))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        pipe.on_write = on_write

    async def _play(self, pipe: Pipe) -> None:
        if self._requests > 1 and self._is_good_later:
            pipe.feed(GOOD_STREAM if self._is_stream else GOOD)
            pipe.feed_eof()
            return
        for piece in self._pieces:
            pipe.feed(piece)
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
        if self._ending == "close":
            pipe.feed_eof()
        elif self._ending == "reset":
            pipe.reset()

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        for task in tuple(self._tasks):
            await asyncio.gather(task, return_exceptions=True)


def play_upstream(data: bytes) -> Callable[[World], Any]:
    async def play(world: World) -> None:
        upstream = Upstream(world, data)
        path, key, body = upstream.request
        secret = world.secrets[KEYS.index(key)]
        pipe = world.connect(world.protocol())
        writes = 0

        def on_write(_: bytes) -> None:
            nonlocal writes
            writes += 1
            if writes == upstream.leaves_after:
                world.loop.call_soon(pipe.reset)

        pipe.on_write = on_write
        pipe.feed(
            b"POST /v1/%b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (path, secret, len(body), body)
        )
        await asyncio.sleep(0)
        await world.quiet()
        await asyncio.sleep(0.01)
        has_left = pipe.is_lost and writes == upstream.leaves_after
        if not has_left:
            for answer in check_answers(pipe, [b"POST"]):
                check_floor(answer, world.recorder.records)
                check_is_answer(answer, "data" if path == b"embeddings" else "choices")
        pipe.reset()
        await upstream.stop()

    return play


# -- what a caller sends --------------------------------------------------------------------------


class _GoodUpstream:
    """Answers every request well, at once."""

    def __init__(self, world: World) -> None:
        world.loop.on_connect = self._connected

    def _connected(self, pipe: Pipe) -> None:
        asked = bytearray()
        loop = asyncio.get_running_loop()

        def on_write(data: bytes) -> None:
            asked.extend(data)
            head_end = asked.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = int(re.search(rb"content-length: (\d+)", asked)[1])
            if len(asked) < head_end + 4 + length:
                return
            is_stream = b'"stream":true' in bytes(asked).replace(b" ", b"")
            del asked[: head_end + 4 + length]
            loop.call_soon(pipe.feed, GOOD_STREAM if is_stream else GOOD)
            if is_stream:
                loop.call_soon(pipe.feed_eof)

        pipe.on_write = on_write


async def _said(world: World, make: Callable[[], Any], pieces: list[bytes], data: bytes) -> Pipe:
    """One connection on which a caller says this; until nothing happens on it any more."""
    given, _ = controls(data)
    pipe = world.connect(make)
    for piece in pieces:
        pipe.feed(piece)
        if given[1] % 3:
            await asyncio.sleep((0.0, 0.0, 0.5)[given[1] % 3])
        if pipe.is_lost:
            break
    if given[2] % 3 == 1:
        pipe.feed_eof()
    await asyncio.sleep(0)
    await world.quiet()
    await asyncio.sleep(8.0)  # longer than any limit of a connection
    await world.quiet()
    if not pipe.is_lost:
        raise Broken("a connection outlives its limits")
    return pipe


def play_caller(data: bytes) -> Callable[[World], Any]:
    given, rest = controls(data)

    async def play(world: World) -> None:
        _GoodUpstream(world)
        said = rest
        for name, secret in zip(KEYS, world.secrets, strict=True):
            said = said.replace(name, secret)
        # Twice with the same memory of heads, and once without any: it must make no difference.
        make = world.protocol()
        slow = world.protocol(knows_heads=False)
        outcomes: list[tuple[list[str], Any]] = []
        heard: list[Any] = []
        for each in (make, make, slow):
            world.recorder.records.clear()
            pieces = pieces_of(said, given[0])
            pipe = await _said(world, each, pieces, data)
            answers = check_answers(pipe, [], said)
            records = [
                (record.key_id, record.status, record.charged_nanos)
                for record in world.recorder.records
            ]
            for key_id, secret in zip(world.key_ids, world.secrets, strict=True):
                made = sum(record[0] == key_id for record in records)
                if made > said.count(secret):
                    raise Broken(f"{made} calls of a key that was sent {said.count(secret)} times")
            outcomes.append((sorted(map(repr, records)), _comparable(answers)))
            heard += world.recorder.records
        world.recorder.records[:] = heard
        if not depends(world, said) and any(each != outcomes[0] for each in outcomes[1:]):
            raise Broken(f"the same bytes, other answers: {outcomes}")

    return play


def depends(world: World, said: bytes) -> bool:
    """Whether what a call gets depends on those before it: by what is left in the account, or by
    its first answer, which is kept."""
    return world.secrets[1] in said or b"idempotency-key" in said.lower()


def _comparable(answers: list[Answer]) -> list[Any]:
    """What must be the same however the bytes arrive. What is malformed ends the connection: with
    an answer of its own, or, if it came while an earlier request was being answered, after that."""
    if answers and answers[-1].status == 400 and b'"malformed_http"' in answers[-1].body:
        answers = answers[:-1]
    told = [_plain(answer) for answer in answers]
    if told:
        status, headers, body = told[-1]
        told[-1] = (status, [each for each in headers if each[0] != b"connection"], body)
    return told


_CALLS_OWN = (b"x-request-id", b"request-id", b"server-timing", b"x-merino-overhead-ms", b"date")
_CALL_ID = re.compile(rb"req_[0-9a-f]{16,}")
"""Messages have it in their errors' bodies, too."""


def _plain(answer: Answer) -> Any:
    """An answer without what differs each time."""
    headers = [
        (name, value)
        for name, value in answer.headers
        if name not in _CALLS_OWN and not name.startswith(b"x-ratelimit")
    ]
    return answer.status, headers, _CALL_ID.sub(b"req_", answer.body)


# -- what must hold of what a client gets ---------------------------------------------------------


def check_answers(pipe: Pipe, methods: list[bytes], said: bytes = b"") -> list[Answer]:
    """Framed as HTTP says, no fault of ours, no secret of the operator but what the caller said."""
    data = bytes(pipe.written)
    is_closed = pipe.is_closed or pipe.is_ended
    try:
        answers = read_answers(data, methods, is_closed=is_closed, has_heads=b"HEAD" in said)
    except Misframed as error:
        raise Broken(f"{error} in {data[-2000:]!r}") from None
    if methods and not answers:
        raise Broken("no answer at all")
    for answer in answers:
        if b'"code":"internal_error"' in answer.body:
            raise Broken(f"a fault of ours: {answer.body!r}")
        told = b"".join(value for _, value in answer.headers)
        if answer.status >= 400:
            told += answer.body
        elif not answer.is_whole:
            told += answer.body.rpartition(b"data: ")[2]  # the relay's own error event
        for secret in (CREDENTIAL, HEADER_SECRET):
            if secret in told and secret not in said:
                raise Broken(f"a secret reaches the caller: {answer}")
        kind = answer.header(b"content-type") or b""
        if answer.is_whole and answer.status == 200 and kind.startswith(b"text/event-stream"):
            if not _ends(answer.body):
                raise Broken(f"a stream without its end: {answer.body[-300:]!r}")
    return answers


FLOOR_MAX = 20
"""Tokens; the least that a request of ours allows. What is counted may not go beyond that."""


def check_floor(answer: Answer, records: list[CallRecord]) -> None:
    """Whatever was said of it: no call is billed for less output than the text that went by, at
    eight characters a token."""
    if answer.status != 200 or not records:
        return
    floor = min(len(_text(answer)) // 8, FLOOR_MAX)
    if records[-1].output_tokens < floor:
        raise Broken(f"billed below what went by: {floor} tokens at least, {records[-1]}")


def check_is_answer(answer: Answer, member: str) -> None:
    """A whole answer with status 200 has what was asked for in it."""
    kind = answer.header(b"content-type") or b""
    if answer.status != 200 or not answer.is_whole or b"json" not in kind:
        return
    try:
        told = json.loads(answer.body)
    except (ValueError, RecursionError):
        return
    if not isinstance(told, dict) or not isinstance(told.get(member), list) or not told[member]:
        raise Broken(f"a 200 that is no answer: {answer.body[:500]!r}")


def _text(answer: Answer) -> str:
    """The text of an answer, as a plain reader finds it."""
    kind = answer.header(b"content-type") or b""
    if not kind.startswith(b"text/event-stream"):
        return _content(answer.body, "message")
    blocks = re.split(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)", answer.body)
    datas = (re.findall(rb"(?m)^data: ?([^\r\n]*)", block) for block in blocks)
    return "".join(_content(b"\n".join(data), "delta") for data in datas)


def _content(data: bytes, where: str) -> str:
    try:
        choices = json.loads(data)["choices"]
        texts = [choice[where]["content"] for choice in choices]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return ""
    return "".join(text for text in texts if isinstance(text, str))


def _ends(stream: bytes) -> bool:
    """Whether the last event of a stream is the one that ends it."""
    blocks = [block for block in re.split(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)", stream) if block]
    lines = re.split(rb"[\r\n]+", blocks[-1]) if blocks else []
    told = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return told == [b"[DONE]"]


PLAYS = {"upstream": play_upstream, "caller": play_caller}
