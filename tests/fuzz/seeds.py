"""Where fuzzing begins: what providers are recorded to send, and requests as clients send them."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.fuzz.targets import GOOD, GOOD_STREAM, REQUESTS, STATUSES, controls
from tests.fuzz.world import CREDENTIAL, HEADER_SECRET
from tests.providers import recordings


def _letter(value: int) -> int:
    """A control byte that reads as `value`."""
    return 0x40 + value if value else 0x60


def upstream_seeds() -> dict[str, bytes]:
    seeds: dict[str, bytes] = {}
    for row in recordings.ROWS:
        if row.endpoint == "embeddings":
            request = 3
        elif row.stream:
            request = 2 if row.asks_usage else 0
        else:
            request = 1
        body = row.raw.replace(recordings.CREDENTIAL.encode(), CREDENTIAL)
        body = body.replace(recordings.HEADER_SECRET.encode(), HEADER_SECRET)
        is_stream = row.stream and row.status == 200
        status = 1 if is_stream else row.status
        ending = {"whole": 3, "open": 1, "cut": 0}[row.ending]
        cut = 1 if is_stream and row.split == "events" else 0
        if status in STATUSES:
            line = [request, STATUSES.index(status), ending, 0, cut]
            seeds[f"framed-{row.id}"] = bytes(map(_letter, line)) + b"\n" + body
        kind = "text/event-stream" if is_stream else "application/json"
        head = f"HTTP/1.1 {row.status} Said\r\ncontent-type: {kind}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in row.headers.items())
        head += f"content-length: {len(body)}\r\n\r\n"
        line = [request, 0, 1, 0, 0]
        seeds[f"raw-{row.id}"] = bytes(map(_letter, line)) + b"\n" + head.encode() + body
    return seeds | _odd_seeds()


def _odd_seeds() -> dict[str, bytes]:
    """Heads and bodies that no provider documents and some have sent."""
    plain = GOOD.partition(b"\r\n\r\n")[2]
    deep = plain.replace(b'"Hello."', b"[" * 600 + b"]" * 600)
    usage = plain.partition(b'"usage":')[0] + b'"usage":'
    refusal = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'

    def answer(status: bytes, body: bytes, *fields: bytes) -> bytes:
        head = b"".join(field + b"\r\n" for field in fields)
        return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, head, len(body), body)

    json = b"content-type: application/json"
    plains = {
        "deep": answer(b"200 OK", deep, json),
        "gzip": answer(b"200 OK", gzip.compress(plain, mtime=0), json, b"content-encoding: gzip"),
        "not-gzip": answer(b"200 OK", plain, json, b"content-encoding: gzip"),
        "unknown-coding": answer(b"200 OK", plain, json, b"content-encoding: rot13"),
        "continued": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + GOOD,
        "old": GOOD.replace(b"HTTP/1.1 200 OK", b"HTTP/1.0 200"),
        "no-reason": GOOD.replace(b"200 OK", b"200"),
        "status-000": answer(b"000 Nothing", plain, json),
        "status-999": answer(b"999 Denied", refusal, json),
        "redirect": answer(b"307 Elsewhere", b"", b"location: /elsewhere"),
        "far-retry": answer(b"429 Later", refusal, json, b"retry-after: " + b"9" * 30),
        "dated-retry": answer(
            b"503 Later",
            refusal,
            json,
            b"retry-after: Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
        ),
        "worded-retry": answer(
            b"429 Later", refusal, json, b"retry-after-ms: nan", b"retry-after: inf"
        ),
        "reset": answer(
            b"200 OK",
            plain,
            json,
            b"x-ratelimit-remaining-requests: 0",
            b"x-ratelimit-reset-requests: 9999999h",
        ),
        "page": answer(b"502 Bad Gateway", b"<html>" * 50, b"content-type: text/html"),
        "huge-counts": answer(
            b"200 OK",
            usage
            + b'{"prompt_tokens":1e400,"completion_tokens":%b,"total_tokens":-1}}' % (b"9" * 25),
            json,
        ),
        "texts-for-counts": answer(
            b"200 OK",
            usage + b'{"prompt_tokens":"9","completion_tokens":"3.0","prompt_tokens_details":[]}}',
            json,
        ),
    }
    seeds = {f"odd-{name}": b"A``\n" + data for name, data in plains.items()}
    seeds["odd-good-stream"] = b"```\n" + GOOD_STREAM
    seeds["odd-marked-stream"] = b"`A`\n\xef\xbb\xbf" + GOOD_STREAM.partition(b"\r\n\r\n")[2]
    seeds["odd-numbered-stream"] = b"`A`\n" + GOOD_STREAM.partition(b"\r\n\r\n")[2].replace(
        b"data: ", b"id: 7\nretry: 10\nevent: ping\ndata:\n\ndata: "
    )
    seeds["odd-slow-stream"] = b"`AACA\n" + GOOD_STREAM.partition(b"\r\n\r\n")[2]
    seeds["odd-left-stream"] = b"`AA`AB\n" + GOOD_STREAM.partition(b"\r\n\r\n")[2]
    return seeds


def caller_seeds() -> dict[str, bytes]:
    seeds: dict[str, bytes] = {}
    requests: list[bytes] = []
    for path, key, body in REQUESTS:
        head = b"POST /v1/%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n" % (path, key)
        requests.append(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mk-rich\r\n"
    chunked += b"Transfer-Encoding: chunked\r\n\r\n"
    body = REQUESTS[1][2]
    chunked += b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        10,
        body[:10],
        len(body) - 10,
        body[10:],
    )
    others = [
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mk-rich\r\n\r\n",
        b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mk-poor\r\n\r\n",
        b"GET /v1/calls/req_1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mk-rich\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: mk-rich\r\nContent-Length: 2\r\n\r\n{}",
        requests[1].replace(b"/v1/chat/completions", b"/v1/estimate"),
        requests[1].replace(b"Host: x", b"Host: x\r\nIdempotency-Key: once"),
        requests[1].replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"),
        requests[0].replace(b"HTTP/1.1", b"HTTP/1.0"),
        requests[0].replace(b"Host: x", b"Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c"),
        requests[1].replace(b"Host: x", b"Host: x\r\nConnection: close"),
        chunked,
    ]
    for number, request in enumerate([*requests, *others]):
        seeds[f"one-{number}"] = b"```\n" + request
        seeds[f"split-{number}"] = b"jA`\n" + request
    for first in (0, 1, 5, 6):
        for second in (1, 3, 6):
            seeds[f"pair-{first}-{second}"] = b"```\n" + requests[first] + requests[second]
    for number, other in enumerate(others):
        seeds[f"mixed-{number}"] = b"```\n" + requests[1] + other + requests[6]
    return seeds


SEEDS = {"upstream": upstream_seeds, "caller": caller_seeds}


def write_seeds(folder: Path) -> None:
    for target, seeds in SEEDS.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            assert controls(data)[1], name
            (folder / target / name).write_bytes(data)
