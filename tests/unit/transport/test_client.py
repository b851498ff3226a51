"""The upstream client over real sockets: TLS, proxies, the pool, and answers of every framing."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.authority import make_authority
from tests.loopback import OK, REQUEST, Upstream, answering, ask, read_request, run

from merino.domain.errors import UpstreamBroken, UpstreamTimedOut, UpstreamUnreachable
from merino.settings import UpstreamSettings
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority of the test's own, and a certificate for 127.0.0.1 and localhost."""
    return make_authority(tmp_path_factory.mktemp("tls"))


def test_tls(authority, monkeypatch) -> None:
    """A certificate is accepted from its authority, and refused without it or for another name."""
    ca_file, context = authority

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(answering(OK), context) as upstream:
            assert (200, b"hi") == await ask(client, upstream.origin("https", ca_file=ca_file))
            trusted = upstream.origin("https", "localhost", ca_file)
            assert (200, b"hi") == await ask(client, trusted)
            with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
                await ask(client, upstream.origin("https"))
        await client.aclose()

    run(scenario())


def test_tls_for_another_name(authority, monkeypatch) -> None:
    """A good certificate of somebody else is refused."""
    ca_file, context = authority

    async def scenario() -> None:
        client = UpstreamClient()
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def to_loopback(host, *args, **kwargs):
            return await resolve("127.0.0.1", *args, **kwargs)

        monkeypatch.setattr(loop, "getaddrinfo", to_loopback)
        async with Upstream(answering(OK), context) as upstream:
            with pytest.raises(UpstreamUnreachable, match=r"(?i)hostname|certificate"):
                await ask(client, upstream.origin("https", "api.example", ca_file))
        await client.aclose()

    run(scenario())


def proxy_of(seen: list[bytes], answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"):
    async def handle(reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        writer.write(answer)
        if b" 200 " not in answer:
            return
        host, _, port = head.split(b" ")[1].rpartition(b":")
        there, back = await asyncio.open_connection(host.decode(), int(port))

        async def copy(source, target) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)

        copying = [asyncio.create_task(copy(*each)) for each in ((reader, back), (there, writer))]
        try:
            await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in copying:
                task.cancel()
            back.transport.abort()
            writer.transport.abort()

    return handle


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_through_a_proxy(authority, monkeypatch, scheme) -> None:
    """Both schemes go through CONNECT, with the credentials of the proxy's URL."""
    ca_file, context = authority
    seen: list[bytes] = []

    async def scenario() -> None:
        async with (
            Upstream(proxy_of(seen)) as proxy,
            Upstream(answering(OK), context if scheme == "https" else None) as upstream,
        ):
            url = f"http://user:p%40ss@127.0.0.1:{proxy.port}"
            monkeypatch.setenv(f"{scheme}_proxy", url)
            monkeypatch.setenv("no_proxy", "")
            client = UpstreamClient()
            origin = upstream.origin(scheme, ca_file=ca_file if scheme == "https" else None)
            for _ in range(2):
                assert (200, b"hi") == await ask(client, origin)
            assert 1 == len(seen), "the tunnel is kept alive"
            assert seen[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % upstream.port)
            assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in seen[0]
            await client.aclose()
            await asyncio.sleep(0.05)

    run(scenario())


def test_a_proxy_that_refuses(monkeypatch) -> None:
    """The refusal is told, and nothing was sent."""

    async def scenario() -> None:
        async with Upstream(
            proxy_of([], b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        ) as p:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{p.port}")
            monkeypatch.setenv("no_proxy", "")
            client = UpstreamClient()
            with pytest.raises(UpstreamUnreachable, match="407"):
                await ask(client, Origin("http", "127.0.0.1", 9))
            await client.aclose()

    run(scenario())


def test_the_pool_is_bounded() -> None:
    """With all connections busy a call waits, gets the next that is free, or is told after the
    time it may wait."""

    async def scenario() -> None:
        client = UpstreamClient(UpstreamSettings(connections_max_per_origin=2))
        async with Upstream(answering(OK, pause_s=0.1)) as upstream:
            origin = upstream.origin()
            answers = await asyncio.gather(*(ask(client, origin) for _ in range(6)))
            assert [(200, b"hi")] * 6 == answers
            assert 2 == upstream.connections
            busy = [asyncio.create_task(ask(client, origin)) for _ in range(2)]
            await asyncio.sleep(0.01)
            with pytest.raises(UpstreamTimedOut, match="All 2 connections") as caught:
                await ask(client, origin, connect_timeout_s=0.02)
            assert "upstream_pool_exhausted" == caught.value.code
            await asyncio.gather(*busy)
            assert (200, b"hi") == await ask(client, origin)
        await client.aclose()

    run(scenario())


def test_the_last_used_connection_is_used_first() -> None:
    """One call at a time needs one connection, however many were open."""

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(answering(OK, pause_s=0.01)) as upstream:
            origin = upstream.origin()
            await asyncio.gather(*(ask(client, origin) for _ in range(3)))
            for _ in range(5):
                await ask(client, origin)
            assert 3 == upstream.connections
        await client.aclose()

    run(scenario())


@pytest.mark.parametrize("parting", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_a_connection_that_went_stale(parting) -> None:
    """A connection the upstream closed, or spoke on unasked, between calls is not used again."""

    async def handle(reader, writer) -> None:
        await read_request(reader)
        writer.write(OK)
        await asyncio.sleep(0.02)
        writer.write(parting)

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(handle) as upstream:
            origin = upstream.origin()
            await ask(client, origin)
            await asyncio.sleep(0.08)
            assert (200, b"hi") == await ask(client, origin)
            assert 2 == upstream.connections
        await client.aclose()

    run(scenario())


def test_idle_connections_are_closed() -> None:
    """What nobody uses for its time is closed."""

    async def scenario() -> None:
        gone = asyncio.Event()

        async def handle(reader, writer) -> None:
            await read_request(reader)
            writer.write(OK)
            await reader.read()
            gone.set()

        client = UpstreamClient(UpstreamSettings(idle_s=0.05))
        async with Upstream(handle) as upstream:
            await ask(client, upstream.origin())
            async with asyncio.timeout(5):
                await gone.wait()
        await client.aclose()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"hi"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
            b"hi",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_framings(answer, expected) -> None:
    """Interim answers are skipped, every framing is read, and the connection serves on."""

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(answering(answer, OK)) as upstream:
            origin = upstream.origin()
            assert expected == (await ask(client, origin))[1]
            assert (200, b"hi") == await ask(client, origin)
        await client.aclose()

    run(scenario())


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("coding", [b"", b"Transfer-Encoding: Identity\r\n"])
def test_an_answer_that_ends_with_the_connection(version, coding) -> None:
    """Without a length the end of the connection is the end of the answer."""

    async def handle(reader, writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/%b 200 OK\r\n%b\r\nall of it" % (version, coding))

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(handle) as upstream:
            assert (200, b"all of it") == await ask(client, upstream.origin())
            assert (200, b"all of it") == await ask(client, upstream.origin())
            assert 2 == upstream.connections
        await client.aclose()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", "in the middle of its answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not proper HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, "head is too large"),
        (OK + OK, "more than the answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "not proper HTTP"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 2_000_000,
            "is larger than",
        ),
    ],
)
def test_answers_that_are_none(answer, message) -> None:
    """Whatever is not one whole answer is an error that says so, and the connection is not used
    again."""

    async def handle(reader, writer) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.05)

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(handle) as upstream:
            for connections in (1, 2):
                with pytest.raises(UpstreamBroken, match=message):
                    await ask(client, upstream.origin())
                assert connections == upstream.connections
        await client.aclose()

    if answer == OK + OK:
        # The first answer is whole; what follows it costs the connection.
        async def surplus() -> None:
            client = UpstreamClient()
            async with Upstream(handle) as upstream:
                for _ in range(2):
                    try:
                        assert (200, b"hi") == await ask(client, upstream.origin())
                    except UpstreamBroken as error:
                        assert message in error.message
                assert 2 == upstream.connections
            await client.aclose()

        run(surplus())
        return
    run(scenario())


def test_nobody_there() -> None:
    """A refused connection is told as unreachable: nothing was sent."""

    async def scenario() -> None:
        async with Upstream(answering(OK)) as upstream:
            origin = upstream.origin()
        client = UpstreamClient()
        with pytest.raises(UpstreamUnreachable, match=r"Cannot connect to 127\.0\.0\.1"):
            await ask(client, origin)
        await client.aclose()

    run(scenario())


def test_backpressure() -> None:
    """A reader who pauses makes the upstream wait; nothing is lost when it goes on."""
    size = 8 * 1024 * 1024
    sent = 0

    async def handle(reader, writer) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(handle) as upstream:
            response = await client.send(upstream.origin(), REQUEST)
            received = 0

            def sink(piece: bytes) -> None:
                nonlocal received
                received += len(piece)

            piping = asyncio.create_task(response.pipe(sink))
            await asyncio.sleep(0)
            response.pause()
            await asyncio.sleep(0.2)
            held_back = sent
            assert held_back < size
            await asyncio.sleep(0.1)
            assert held_back == sent
            response.resume()
            await piping
            response.close()
            assert size == received
        await client.aclose()

    run(scenario())
