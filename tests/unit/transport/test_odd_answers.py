"""Answers that are compressed unasked, have statuses of no protocol, or say odd things in heads."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples
from tests.loopback import REQUEST, Upstream, answering, ask, run

from merino.domain.errors import UpstreamBroken
from merino.gateway.metering import StreamLimits
from merino.settings import UpstreamSettings
from merino.transport.client import UpstreamClient
from merino.transport.connection import UpstreamConnection
from merino.transport.h1 import STATUS_LINES


def packed_head(coding: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%bContent-Encoding: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        more,
        coding,
        len(body),
        body,
    )


def asked(*answers: bytes, limits: UpstreamSettings | None = None) -> list[tuple[int, bytes]]:
    """What comes of each, one after the other."""
    found: list[tuple[int, bytes]] = []

    async def scenario() -> None:
        client = UpstreamClient(limits, environ={})
        async with Upstream(answering(*answers)) as upstream:
            try:
                found.extend([await ask(client, upstream.origin()) for _ in answers])
                assert 1 == upstream.connections
            finally:
                await client.aclose()

    run(scenario())
    return found


def test_compressed_whole_answers() -> None:
    """They are unpacked, of whatever status, and their connection serves on."""
    plain = b'{"error": {"message": "temperature is too high"}}'
    refusal = gzip.compress(plain)

    assert [(200, plain), (200, plain), (400, plain), (200, b"hi"), (200, b"hi")] == asked(
        packed_head(b"gzip", refusal),
        packed_head(b"DEFLATE", zlib.compress(plain)),
        b"HTTP/1.1 400 Bad\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
        % (len(refusal), refusal),
        packed_head(b"identity", b"hi"),
        packed_head(b"gzip", gzip.compress(b"hi"), b"Content-Encoding: identity\r\n"),
    )


@pytest.mark.parametrize("coding", [b"rot13", b"gzip"])
def test_what_cannot_be_unpacked(coding) -> None:
    """The error names the coding, instead of calling the body no JSON."""
    with pytest.raises(UpstreamBroken, match=f"content-encoding: {coding.decode()}"):
        asked(packed_head(coding, b'{"choices": []}'))


def test_a_small_answer_that_unpacks_to_a_large_one() -> None:
    """It is cut at the limit, though the reader would take more."""
    with pytest.raises(UpstreamBroken, match="unpacked, is larger than 1000 bytes"):
        asked(
            packed_head(b"gzip", gzip.compress(bytes(2000))),
            limits=UpstreamSettings(answer_bytes_max=1000),
        )


def test_the_limits_agree() -> None:
    """A compressed answer may be as large as any other."""
    assert StreamLimits().answer_bytes_max == UpstreamSettings().answer_bytes_max


def test_compressed_streams_flow() -> None:
    """Each event comes out when it arrives, and the head shows nothing of the packing."""
    got: list[bytes] = []

    async def scenario() -> None:
        heard = asyncio.Event()

        async def handle(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n{}")
            head = b"content-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % head)
            packer = zlib.compressobj(wbits=31)
            for each in (b"data: 1\n\n", b"data: 2\n\n"):
                piece = packer.compress(each) + packer.flush(zlib.Z_SYNC_FLUSH)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await heard.wait()
                heard.clear()
            piece = packer.flush()
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece))

        def take(piece: bytes) -> None:
            got.append(piece)
            heard.set()

        client = UpstreamClient(environ={})
        async with Upstream(handle) as upstream:
            response = await client.send(upstream.origin(), REQUEST)
            assert response.header(b"content-encoding") is None
            assert [b"content-type", b"transfer-encoding"] == [name for name, _ in response.headers]
            await response.pipe(take)
            response.close()
        await client.aclose()

    run(scenario())
    assert [b"data: 1\n\n", b"data: 2\n\n"] == got


@pytest.mark.parametrize("status", [b"000", b"001", b"042", b"099", b"101"])
def test_statuses_that_are_no_answer(status) -> None:
    """They end the call at once; taken for interim ones they would be waited on for ever."""
    head = b"HTTP/1.1 %b Odd\r\ncontent-length: 2\r\n\r\n{}" % status
    with pytest.raises(UpstreamBroken, match=f"status {status.decode()}|switched protocols"):
        asked(head)


@pytest.mark.parametrize("status", [600, 666, 999])
def test_statuses_beyond_the_protocol(status) -> None:
    """They are answers; who passes one on has a line for it."""
    assert [(status, b"hi")] == asked(b"HTTP/1.1 %d Odd\r\ncontent-length: 2\r\n\r\nhi" % status)
    assert b"HTTP/1.1 %d Unknown\r\n" % status == STATUS_LINES[status]


class _Pool:
    def give_back(self, connection, *, is_reusable) -> None: ...

    def forget(self, connection) -> None: ...


class _Transport:
    def write(self, data) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...


@settings(max_examples=examples(100))
@given(
    status=st.binary(min_size=1, max_size=4) | st.from_regex(rb"[0-9]{3}", fullmatch=True),
    phrase=st.binary(max_size=12),
    fields=st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=4),
    cuts=st.lists(st.integers(0, 80), max_size=3),
)
def test_no_head_crashes_or_hangs_a_call(status, phrase, fields, cuts) -> None:
    """Whatever stands in a head that ends: an answer, an interim one, or an error that says so;
    and all headers can be asked for."""

    async def scenario() -> None:
        connection: Any = UpstreamConnection(_Pool())
        connection.transport = _Transport()
        connection.begin(REQUEST)
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        data = b"HTTP/1.1 %b %b\r\n%bcontent-length: 2\r\n\r\nhi" % (status, phrase, lines)
        for cut in cuts:
            connection.data_received(data[:cut])
            data = data[cut:]
        if data:
            connection.data_received(data)
        connection.connection_lost(None)
        if connection.is_head_done:
            assert 200 <= connection.status <= 999
            assert all(isinstance(value, bytes) for _, value in connection.headers)
            connection.header(b"content-type")
            return
        with pytest.raises(UpstreamBroken):
            await connection.change()

    asyncio.run(scenario())
