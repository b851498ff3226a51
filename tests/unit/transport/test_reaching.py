"""The way to an upstream: names with several addresses, proxies, trusted certificates."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.authority import make_authority
from tests.loopback import OK, Swallowing, Upstream, answering, ask, read_request, run

from merino.domain.errors import UpstreamUnreachable
from merino.transport import connecting
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin, interleaved, read_trusted

V4, V6 = socket.AF_INET, socket.AF_INET6


def resolving_to(monkeypatch, *addresses: tuple[int, str]) -> None:
    """Every name has these addresses, in this order."""

    async def getaddrinfo(host, port, **_):
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in addresses
        ]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("by_proxy", [False, True])
def test_an_address_that_swallows_everything(monkeypatch, tmp_path, is_tls, by_proxy) -> None:
    """The next one is tried beside it, and is the first for the connections that follow; on the
    way to a proxy, too."""
    ca_file, context = make_authority(tmp_path)
    monkeypatch.setattr(connecting, "NEXT_ADDRESS_S", 0.02)

    async def tunnelled(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        if is_tls:
            await writer.start_tls(context)
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    async def scenario() -> None:
        resolving_to(monkeypatch, (V6, "::1"), (V4, "127.0.0.1"))
        handler = tunnelled if by_proxy else answering(OK)
        async with Upstream(handler, context if is_tls and not by_proxy else None) as upstream:
            with Swallowing(upstream.port):
                environ = {"all_proxy": f"http://dual.test:{upstream.port}"} if by_proxy else {}
                client = UpstreamClient(environ=environ)
                scheme = "https" if is_tls else "http"
                host = "localhost" if is_tls else "dual.test"
                origin = upstream.origin(scheme, host, ca_file if is_tls else None)
                assert (200, b"hi") == await ask(client, origin)
                monkeypatch.setattr(connecting, "NEXT_ADDRESS_S", 1000.0)
                client.trust(read_trusted([origin]))  # which closes what is idle
                for pool in client._pools.values():
                    pool.close()
                assert (200, b"hi") == await ask(client, origin)
                await client.aclose()

    run(scenario())


def test_addresses_that_refuse(monkeypatch) -> None:
    """One that refuses is followed at once; if all do, each reason is told once."""

    async def scenario() -> None:
        async with Upstream(answering(OK)) as upstream:
            resolving_to(monkeypatch, (V4, "127.0.0.2"), (V6, "::1"), (V4, "127.0.0.1"))
            client = UpstreamClient(environ={})
            assert (200, b"hi") == await ask(client, upstream.origin(host="three.test"))
            resolving_to(monkeypatch, (V4, "127.0.0.2"), (V6, "::1"))
            with pytest.raises(UpstreamUnreachable) as caught:
                await ask(client, upstream.origin(host="none.test"))
            assert 1 == caught.value.message.lower().count("refused")
            await client.aclose()

    run(scenario())


@pytest.mark.parametrize("on_uvloop", [False, True])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_names_and_addresses(on_uvloop, host) -> None:
    """Both lead there, on either event loop."""

    async def scenario() -> None:
        async with Upstream(answering(OK), host="::1" if ":" in host else "127.0.0.1") as upstream:
            client = UpstreamClient(environ={})
            assert (200, b"hi") == await ask(client, upstream.origin(host=host))
            await client.aclose()

    run(scenario(), on_uvloop=on_uvloop)


@pytest.mark.parametrize("host", ["a" * 70 + ".test", "nobody.invalid"])
def test_names_that_are_none(host) -> None:
    """They are told as unreachable."""

    async def scenario() -> None:
        client = UpstreamClient(environ={})
        with pytest.raises(UpstreamUnreachable, match="Cannot connect to"):
            await ask(client, Origin("http", host, 80))
        await client.aclose()

    run(scenario())


@given(
    st.lists(st.tuples(st.sampled_from((V4, V6)), st.integers(0, 99)), max_size=10), st.booleans()
)
def test_the_versions_of_ip_take_turns(addresses, is_six_first) -> None:
    """Nothing is left out, each version keeps its order, and no two of one version follow each
    other while there is one of the other left."""
    addresses = list(dict.fromkeys(addresses))
    first = V6 if is_six_first else None
    found = interleaved(addresses, first)

    assert sorted(addresses) == sorted(found)
    for family in (V4, V6):
        assert [a for a in addresses if a[0] == family] == [a for a in found if a[0] == family]
    for at in range(len(found) - 1):
        if found[at][0] == found[at + 1][0]:
            assert {found[at][0]} == {family for family, _ in found[at + 1 :]}
    if first in {family for family, _ in addresses}:
        assert first == found[0][0]


def test_a_tunnel_to_an_ipv6_address() -> None:
    """CONNECT names it in brackets, in both lines."""
    seen: list[bytes] = []

    async def proxy(reader, writer) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await read_request(reader)
        writer.write(OK)

    async def scenario() -> None:
        async with Upstream(proxy) as server:
            client = UpstreamClient(environ={"HTTP_PROXY": f"127.0.0.1:{server.port}"})
            assert (200, b"hi") == await ask(client, Origin("http", "fd00::7", 8080))
            await client.aclose()

    run(scenario())
    assert [b"CONNECT [fd00::7]:8080 HTTP/1.1\r\nHost: [fd00::7]:8080\r\n\r\n"] == seen


@pytest.mark.parametrize("exception", ["127.0.0.0/8", "[::1] 127.0.0.1:{port}", "*"])
def test_past_the_proxy(exception) -> None:
    """What NO_PROXY names is reached directly."""

    async def scenario() -> None:
        async with Upstream(answering(OK)) as upstream:
            environ = {
                "http_proxy": "http://127.0.0.1:9",
                "no_proxy": exception.format(port=upstream.port),
            }
            client = UpstreamClient(environ=environ)
            assert (200, b"hi") == await ask(client, upstream.origin())
            await client.aclose()

    run(scenario())


@pytest.mark.parametrize("url", ["https://me:secret@127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_we_do_not_speak(url) -> None:
    """Nothing is sent to it in plain HTTP instead."""

    async def scenario() -> None:
        client = UpstreamClient(environ={"ALL_PROXY": url})
        with pytest.raises(UpstreamUnreachable, match="does not speak") as caught:
            await ask(client, Origin("http", "127.0.0.1", 9))
        assert "secret" not in caught.value.message
        await client.aclose()

    run(scenario())


def test_a_proxys_answer_without_an_end() -> None:
    """It is not collected for ever."""

    async def proxy(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)
        await reader.read()

    async def scenario() -> None:
        async with Upstream(proxy) as server:
            client = UpstreamClient(environ={"HTTP_PROXY": f"http://127.0.0.1:{server.port}"})
            with pytest.raises(UpstreamUnreachable, match="has no end"):
                await ask(client, Origin("http", "127.0.0.1", 9))
            await client.aclose()

    run(scenario())


def test_a_renewed_certificate_authority(tmp_path) -> None:
    """After a new look at the file the new one is trusted and the old one is not; a file that
    cannot be read changes nothing."""
    (tmp_path / "new").mkdir()
    trusted, old = make_authority(tmp_path)
    renewed, new = make_authority(tmp_path / "new")
    write, to_come = Path(trusted).write_text, Path(renewed).read_text()

    async def scenario() -> None:
        client = UpstreamClient(environ={})
        async with (
            Upstream(answering(OK), old) as before,
            Upstream(answering(OK), new) as after,
        ):
            origins = [each.origin("https", ca_file=trusted) for each in (before, after)]
            assert (200, b"hi") == await ask(client, origins[0])
            with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
                await ask(client, origins[1])
            write("nothing of the kind")
            with pytest.raises(OSError, match=r"(?i)certificate|PEM|crl"):
                client.trust(read_trusted(origins))
            assert (200, b"hi") == await ask(client, origins[0])
            write(to_come)
            client.trust(read_trusted(origins))
            assert (200, b"hi") == await ask(client, origins[1])
            with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
                await ask(client, origins[0])
        await client.aclose()

    run(scenario())


@pytest.mark.parametrize("refusal", [b"405 Method Not Allowed", b"501 Not Implemented", b"403 No"])
def test_a_proxy_without_tunnels_forwards_what_is_plain(refusal) -> None:
    """It is given the whole address and its credentials, from then on without being asked first."""

    seen: list[bytes] = []

    async def proxy(reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                if seen[-1].startswith(b"CONNECT"):
                    writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % refusal)
                    return
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def scenario() -> None:
        async with Upstream(proxy) as server:
            environ = {"HTTP_PROXY": f"http://u:p@127.0.0.1:{server.port}"}
            client = UpstreamClient(environ=environ)
            origin = Origin.of("http://relay.invalid:8080/v1")
            for _ in range(2):
                request = b"POST /v1/x HTTP/1.1\r\nhost: relay.invalid\r\n\r\n"
                answer = await client.send(origin, request)
                assert b"ok" == await answer.read(100)
                answer.close()
            await client.aclose()

    run(scenario())
    whole = b"POST http://relay.invalid:8080/v1/x HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n"
    assert [b"CONNECT", b"POST", b"POST"] == [head.split(b" ")[0] for head in seen]
    assert [whole + b"host: relay.invalid\r\n\r\n"] * 2 == seen[1:]
