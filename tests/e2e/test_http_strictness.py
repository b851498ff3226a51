"""Raw bytes: what is not proper HTTP/1.1 is refused and the connection closed; nothing is smuggled."""

from __future__ import annotations

import json
import socket
import time

import pytest

BODY = json.dumps({"model": "o3-mini", "messages": [{"role": "user", "content": "x"}]}).encode()
LENGTH = str(len(BODY)).encode()
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: smuggled\r\n\r\n"
PATH = b"POST /v1/chat/completions HTTP/1.1\r\n"


def talk(relay, data: bytes, *, timeout_s: float = 5.0) -> bytes:
    """Send bytes and read until the server closes."""
    host, port = relay.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=timeout_s) as client:
        client.sendall(data.replace(b"KEY", relay.key.encode()))
        try:
            while piece := client.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    return received


HEAD = PATH + b"Host: x\r\nAuthorization: Bearer KEY\r\n"

MALFORMED = {
    "both lengths": HEAD
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "both lengths, other order": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two credentials": HEAD + b"Authorization: Bearer x\r\nContent-Length: 0\r\n\r\n",
    "two idempotency keys": HEAD
    + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n",
    "duplicated length": HEAD
    + b"Content-Length: "
    + LENGTH
    + b"\r\nContent-Length: "
    + LENGTH
    + b"\r\n\r\n"
    + BODY,
    "differing lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + SMUGGLED,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "signed length": HEAD + b"Content-Length: +5\r\n\r\nhello" + SMUGGLED,
    "hexadecimal length": HEAD + b"Content-Length: 0x5\r\n\r\nhello" + SMUGGLED,
    "list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello" + SMUGGLED,
    "empty length": HEAD + b"Content-Length: \r\n\r\n" + SMUGGLED,
    "huge length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "duplicated coding": HEAD
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "identity coding": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED,
    "folded header": HEAD + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "bare LF": HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "one bare LF": HEAD + b"X-A: b\nX-B: c\r\nContent-Length: 0\r\n\r\n",
    "bare CR": HEAD + b"X-A: b\rX-B: c\r\nContent-Length: 0\r\n\r\n",
    "space before colon": HEAD + b"Content-Length : 0\r\n\r\n" + SMUGGLED,
    "space in name": HEAD + b"Content Length: 0\r\n\r\n",
    "no name": HEAD + b": x\r\n\r\n",
    "no host": PATH + b"Authorization: Bearer KEY\r\nContent-Length: 0\r\n\r\n",
    "two hosts": HEAD + b"Host: y\r\nContent-Length: 0\r\n\r\n",
    "NUL in value": HEAD + b"X-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "control character in value": HEAD + b"X-A: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "absolute target": b"GET http://x/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority target": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "target without slash": b"GET v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /v1/models HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "no version": b"GET /v1/models HTTP\r\nHost: x\r\n\r\n",
    "lowercase method": b"get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method": b"BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "oversized header": HEAD + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n",
    "too many headers": HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(150)) + b"\r\n",
    "overlong target": b"GET /v1/" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "chunk longer than said": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "huge chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "upgrade": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "upgrade of responses": b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "unknown expectation": HEAD + b"Expect: 200-maybe\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused_and_closed(relay, name) -> None:
    """A request that is not proper HTTP gets one refusal in OpenAI's shape and a closed connection,
    and whatever hides behind it is never answered."""
    received = talk(relay, MALFORMED[name])
    assert received.count(b"HTTP/1.1 ") <= 1
    if received:
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.split(b" ")[1][:1] == b"4", head
        assert {"message", "type", "param", "code"} == set(json.loads(body)["error"])
        assert b"connection: close" in head.lower()


def test_body_over_the_limit_is_refused_before_it_is_read(relay) -> None:
    """A stranger's large body is refused by its announced length, without reading it."""
    head = PATH + b"Host: x\r\nAuthorization: Bearer nobody\r\nContent-Length: 100000\r\n\r\n"
    received = talk(relay, head)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_chunked_body_over_the_limit_is_refused_while_reading(relay) -> None:
    """Without an announced length the limit holds all the same."""
    head = PATH + b"Host: x\r\nAuthorization: Bearer nobody\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = talk(relay, head + (b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * 8)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_chunked_request_split_at_every_byte(relay) -> None:
    """A proper chunked request is read in pieces of any size."""
    host, port = relay.url.removeprefix("http://").split(":")
    half = len(BODY) // 2
    request = (
        HEAD.replace(b"KEY", relay.key.encode())
        + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n%x;note=1\r\n%b\r\n0\r\n\r\n"
        % (half, BODY[:half], len(BODY) - half, BODY[half:])
    )
    received = b""
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            client.sendall(bytes([byte]))
        while piece := client.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(relay) -> None:
    """Requests sent at once on one connection are answered one after the other."""
    one = b"GET /v1/models/%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n%b\r\n"
    names = [b"o3", b"o4", b"o3-mini"]
    requests = [one % (name, b"") for name in names[:-1]]
    requests.append(one % (names[-1], b"Connection: close\r\n"))
    received = talk(relay, b"".join(requests))
    assert 3 == received.count(b"HTTP/1.1 200 ")
    places = [received.index(b'"id":"%b"' % name) for name in names]
    assert sorted(places) == places


LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
MODEL = b"GET /v1/models/%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n\r\n"


@pytest.mark.parametrize(
    ("requests", "answered"),
    [
        ((LIVE, MODEL % b"o4"), [b"livez"]),
        ((MODEL % b"o3", LIVE, MODEL % b"o4"), [b"o3", b"livez"]),
        ((LIVE, LIVE, MODEL % b"o4", LIVE), [b"livez", b"livez"]),
        ((LIVE, b"GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n", LIVE), [b"livez"]),
        ((MODEL % b"o3", LIVE, LIVE), [b"o3", b"livez", b"livez"]),
    ],
)
@pytest.mark.parametrize("is_learned", [False, True])
def test_pipelined_requests_never_overtake(relay, requests, answered, is_learned) -> None:
    """Answers come in the order of the requests; where that cannot be, the line ends instead."""
    host, port = relay.url.removeprefix("http://").split(":")
    data = b"".join(requests).replace(b"KEY", relay.key.encode())
    received = b""
    with socket.create_connection((host, int(port)), timeout=5.0) as client:
        if is_learned:  # a head that is known does not go through the parser
            chat = HEAD + b"Content-Length: " + LENGTH + b"\r\n\r\n" + BODY
            for _ in range(2):
                client.sendall(chat.replace(b"KEY", relay.key.encode()))
                received = client.recv(65536)
                assert received.startswith(b"HTTP/1.1 200 ")
            received = b""
        client.sendall(data)
        if answered != [b"o3", b"livez", b"livez"]:
            while piece := client.recv(65536):
                received += piece
        else:
            while received.count(b"HTTP/1.1 ") < 3 or not received.endswith(b"}"):
                received += client.recv(65536)
    answers = received.split(b"HTTP/1.1 200 ")[1:]
    told = [b"o3" if b'"id":"o3"' in each else b"livez" for each in answers]
    assert answered == told
    assert b'"id":"o4"' not in received
    assert received.count(b"HTTP/1.1 ") == len(answered)


def test_pipelined_calls_of_two_keys_are_each_billed_to_their_own(start_relay) -> None:
    """What came in one read with another's call stays the sender's, then and later."""
    relay = start_relay()
    keys = {}
    for name in ("alice", "bob"):
        relay.cli("accounts", "create", "--name", name)
        relay.cli("accounts", "credit", name, "5")
        keys[name] = relay.cli("keys", "create", "--name", name, "--account", name)["key"].encode()
    chat = HEAD + b"Content-Length: " + LENGTH + b"\r\n\r\n" + BODY

    def calls(*names: str) -> None:
        sent = b"".join(chat.replace(b"KEY", keys[name]) for name in names)
        host, port = relay.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.sendall(sent)
            received = b""
            while received.count(b"chat.completion") < len(names):
                received += client.recv(65536)

    calls("alice", "bob")
    for _ in range(3):
        calls("alice")
    counted = {}
    for name in keys:
        counted[name] = len(relay.cli("calls", "list", "--account", name)["data"])
    assert {"alice": 4, "bob": 1} == counted


@pytest.mark.parametrize("offer", [b"h2c", b"TLS/1.0"])
def test_an_offer_of_another_protocol_is_passed_over(relay, offer) -> None:
    """Java's client offers h2c on every request; the call is served over HTTP/1.1."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: %b\r\n" % offer
    received = talk(relay, HEAD + upgrade + b"Content-Length: " + LENGTH + b"\r\n\r\n" + BODY)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"chat.completion" in received


def test_a_known_head_waits_for_its_turn(relay) -> None:
    """A call behind a health check in one write is not answered before it."""
    host, port = relay.url.removeprefix("http://").split(":")
    chat = HEAD + b"Content-Length: " + LENGTH + b"\r\n\r\n" + BODY
    chat = chat.replace(b"KEY", relay.key.encode())
    with socket.create_connection((host, int(port)), timeout=5.0) as client:
        client.sendall(chat)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(LIVE)
        client.sendall(chat)
        received = b""
        while b"chat.completion" not in received and (piece := client.recv(65536)):
            received += piece
    first = received.split(b"HTTP/1.1 ")[1]
    assert b"chat.completion" not in first


def test_one_connection_carries_both_lanes(relay) -> None:
    """A kept-alive connection serves calls, health checks and calls again."""
    with relay.http() as http:
        for path in ("/v1/models", "/livez", "/v1/models/o3", "/readyz", "/v1/models"):
            assert 200 == http.get(path).status_code


def test_slow_head_is_timed_out(start_relay) -> None:
    """A client that never finishes its head is answered 408 and closed."""
    relay = start_relay("[server]\nhead_timeout_s = 0.5\n")
    began = time.monotonic()
    received = talk(relay, b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert received.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 5


def test_idle_connection_is_closed(start_relay) -> None:
    """A connection without a request is closed after the keep-alive time."""
    relay = start_relay("[server]\nkeep_alive_s = 0.3\nhead_timeout_s = 0.5\n")
    assert b"" == talk(relay, b"")


def test_continue_is_sent_only_for_an_acceptable_length(relay) -> None:
    """`Expect: 100-continue` is answered before the body, unless the body would be refused."""
    host, port = relay.url.removeprefix("http://").split(":")
    head = (
        HEAD.replace(b"KEY", relay.key.encode()) + b"Connection: close\r\nExpect: 100-continue\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(head + b"Content-Length: " + LENGTH + b"\r\n\r\n")
        assert client.recv(1024).startswith(b"HTTP/1.1 100 ")
        client.sendall(BODY)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    refused = talk(relay, head + b"Content-Length: 999999999\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 413 ")
