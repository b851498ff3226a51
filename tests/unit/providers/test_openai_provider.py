"""The OpenAI dialect: what bytes leave for an upstream, and which settings are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from merino import __version__
from merino.domain.deployment import Deployment
from merino.domain.errors import Misconfigured
from merino.gateway.ports import Headers, Provider, UpstreamRequest
from merino.providers.openai import OpenAIProvider, check_deployment, parse_base_url, retry_after_s
from merino.simulator.server import serve_simulator
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

DEPLOYMENT = Deployment(
    "main", "openai", "o3", base_url="https://api.example.com/v1", credential="sk-secret"
)
BODY = b'{"model":"o3"}'

pytestmark = pytest.mark.anyio


class Response:
    """A head and nothing more."""

    status = 200

    def __init__(self, headers: Headers | None = None) -> None:
        self.headers = headers or []

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    async def read(self, bytes_max: int) -> bytes:
        return b""

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self) -> None:
        pass


class Client:
    """Remembers what it was to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[str, str, int], bytes, float]] = []

    async def send(
        self, origin: tuple[str, str, int], data: bytes, *, connect_timeout_s: float
    ) -> Any:
        self.sent.append((origin, data, connect_timeout_s))
        return Response()


def provider_of(client: Client) -> OpenAIProvider[tuple[str, str, int]]:
    return OpenAIProvider(client, lambda scheme, host, port: (scheme, host, port))


async def sent(
    endpoint: str = "chat/completions", **changes: Any
) -> tuple[tuple[str, str, int], bytes]:
    client = Client()
    provider: Provider = provider_of(client)
    deployment = replace(DEPLOYMENT, **changes)
    await provider.send(UpstreamRequest("call", endpoint, BODY, deployment))
    origin, data, _ = client.sent[0]
    return origin, data


async def test_the_whole_request() -> None:
    """Every byte that leaves: our headers, the credential, the length and the body as it is."""
    origin, data = await sent(headers=(("X-Team", "blue"),))
    assert ("https", "api.example.com", 443) == origin
    expected = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        "host: api.example.com\r\n"
        f"user-agent: merino/{__version__}\r\n"
        "accept: application/json\r\n"
        "accept-encoding: identity\r\n"
        "content-type: application/json\r\n"
        "authorization: Bearer sk-secret\r\n"
        "x-team: blue\r\n"
        "content-length: 14\r\n"
        '\r\n{"model":"o3"}'
    )
    assert expected == data.decode()


async def test_no_credential_no_authorization() -> None:
    """Local servers without a credential get no Authorization header."""
    _, data = await sent(credential="")
    assert b"authorization" not in data


async def test_a_deployment_may_replace_a_header() -> None:
    """A header of the deployment stands instead of ours, never beside it."""
    _, data = await sent(headers=(("Authorization", "Basic eDp5"), ("api-key", "k")))
    assert 1 == data.lower().count(b"authorization:")
    assert b"authorization: Basic eDp5\r\napi-key: k\r\n" in data


@pytest.mark.parametrize(
    ("base_url", "origin", "target", "host"),
    [
        ("http://x/v1", ("http", "x", 80), "/v1/embeddings", "x"),
        ("http://x/v1/", ("http", "x", 80), "/v1/embeddings", "x"),
        ("http://x", ("http", "x", 80), "/embeddings", "x"),
        ("HTTP://X:80/", ("http", "x", 80), "/embeddings", "x"),
        ("http://x:8080/a/b//", ("http", "x", 8080), "/a/b/embeddings", "x:8080"),
        ("https://x:80", ("https", "x", 80), "/embeddings", "x:80"),
        ("http://[::1]:9000/v1", ("http", "::1", 9000), "/v1/embeddings", "[::1]:9000"),
        (
            "https://[2001:DB8::0]/v1",
            ("https", "2001:db8::", 443),
            "/v1/embeddings",
            "[2001:db8::]",
        ),
        (
            "https://r.azure.com/openai/deployments/o3?api-version=2026-01-01&x=%20",
            ("https", "r.azure.com", 443),
            "/openai/deployments/o3/embeddings?api-version=2026-01-01&x=%20",
            "r.azure.com",
        ),
        (
            "https://bücher.example/ü",
            ("https", "xn--bcher-kva.example", 443),
            "/%C3%BC/embeddings",
            "xn--bcher-kva.example",
        ),
    ],
)
async def test_base_urls(
    base_url: str, origin: tuple[str, str, int], target: str, host: str
) -> None:
    """Paths are joined by one slash, a query stays at the end, a usual port is left out."""
    actual, data = await sent("embeddings", base_url=base_url)
    assert origin == actual
    assert data.startswith(f"POST {target} HTTP/1.1\r\nhost: {host}\r\n".encode())


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example.com/v1",
        "ftp://x/v1",
        "http://",
        "http:///v1",
        "http://x:0",
        "http://x:port",
        "http://x:99999",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://user:hunter2@x/v1",
        "http://x/v1#part",
        "http://x/v1\r\nx: y",
        "http://x/a b",
        "http://x\\y/",
        "http://a..b/",
        "http://x,y/",
    ],
)
async def test_bad_base_urls(base_url: str) -> None:
    """A base URL that cannot be called is a `Misconfigured` that shows no secret."""
    with pytest.raises(Misconfigured, match="deployment 'main'") as caught:
        await sent(base_url=base_url)
    assert "hunter2" not in caught.value.message
    assert "https://api.openai.com/v1" in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nx-other: b"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", "a\x7fb"),
        ("x", "\u2028"),
        ("x y", "a"),
        ("x:", "a"),
        ("x\r\ny", "a"),
        ("", "a"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("connection", "close"),
    ],
)
async def test_header_injection_is_refused(name: str, value: str) -> None:
    """No header of a deployment can end a line, frame the body or steer the connection."""
    with pytest.raises(Misconfigured, match="deployment 'main'"):
        check_deployment(replace(DEPLOYMENT, headers=((name, value),)))


async def test_a_bad_credential_is_refused_without_showing_it() -> None:
    """A credential with a line break, as read from a file, is named but not shown."""
    with pytest.raises(Misconfigured, match="credential of deployment 'main'") as caught:
        check_deployment(replace(DEPLOYMENT, credential="sk-secret\n"))
    assert "sk-secret" not in caught.value.message


async def test_the_head_is_rendered_once_and_follows_a_reload() -> None:
    """A deployment's head is kept, until another deployment takes its name."""
    client = Client()
    origins: list[str] = []

    def origin_of(scheme: str, host: str, port: int) -> tuple[str, str, int]:
        origins.append(host)
        return scheme, host, port

    provider = OpenAIProvider(client, origin_of)
    moved = replace(DEPLOYMENT, base_url="http://moved/v1")
    for deployment in (DEPLOYMENT, DEPLOYMENT, moved, moved):
        await provider.send(UpstreamRequest("call", "embeddings", BODY, deployment))
    assert ["api.example.com", "moved"] == origins
    assert ["api.example.com"] * 2 + ["moved"] * 2 == [host for (_, host, _), _, _ in client.sent]


async def test_the_connect_timeout_is_the_deployments() -> None:
    """The client is told the deployment's own connect timeout."""
    client = Client()
    deployment = replace(DEPLOYMENT, connect_timeout_s=0.25)
    await provider_of(client).send(UpstreamRequest("call", "embeddings", BODY, deployment))
    assert 0.25 == client.sent[0][2]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"2"), (b"retry-after-ms", b"1500")], 1.5),
        ([(b"retry-after-ms", b"inf"), (b"retry-after", b"3")], 3.0),
        ([(b"retry-after", b"-4")], 0.0),
        ([(b"retry-after", b"Thu, 01 Jan 1970 00:00:00 GMT")], 0.0),
        ([(b"retry-after", b"soon")], None),
    ],
)
async def test_retry_after(headers: Headers, seconds: float | None) -> None:
    """Milliseconds win, then seconds or a date; never negative, never infinite."""
    response: Any = Response(headers)
    assert seconds == retry_after_s(response)


async def test_it_works_over_the_pooled_client() -> None:
    """Provider and transport fit: a call through real sockets reaches the simulated upstream."""
    server = await serve_simulator(credential="sk-right")
    client = UpstreamClient()
    provider = OpenAIProvider(client, Origin)
    deployment = replace(DEPLOYMENT, base_url=server.base_url, credential="sk-right")
    body = b'{"model":"o3!output=3","messages":[{"role":"user","content":"hi"}]}'
    try:
        response = await provider.send(UpstreamRequest("c", "chat/completions", body, deployment))
        status, data = response.status, await response.read(10_000)
        response.close()
    finally:
        await client.aclose()
        await server.close()
    assert 200 == status
    assert b"A simulated answer." in data
    assert body == server.last_body


async def test_addresses_are_plain_data() -> None:
    """The parsed base URL keeps what the client and the head need."""
    address = parse_base_url("http://[::1]:81/v1/?a=b", "here")
    assert ("http", "::1", 81) == (address.scheme, address.host, address.port)
    assert (address.authority, address.path, address.query) == ("[::1]:81", "/v1", "a=b")
