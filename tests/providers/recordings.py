"""What providers send, as data: `recorded/*.toml`, one file a provider.

Every text in them is our own; the shapes are those of the pages that a file's `sources` name. What
a call costs was reckoned by hand from the prices below, not by the code under test.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"

CREDENTIAL = "sk-operators-own-5f1e7a90"
"""What every deployment is asked with. Where a recording says it, no caller may see it."""
HEADER_SECRET = "azure-header-secret-77c2"

PRICE = 'price = { input = "1.00", cached = "0.10", cache_write = "1.25", output = "10.00" }'
NANOS = {"input": 1_000, "cached": 100, "cache_write": 1_250, "output": 10_000}
"""The same, in nano-dollars a token."""

HARMLESS = "What is two and two?"
"""A prompt that every upstream answers, whatever it does to others."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recorded exchange and what must come of it.

    The upstream: `status`, `headers`, `body` cut into HTTP chunks (`split`: "events", "whole", or so
    many bytes), framed by `framing` and ended by `ending` ("open": the connection stays, "cut").
    `refuses` names a field of the request that it refuses with `refusal`.

    The caller: `client_status`; the body is the upstream's, without the events at `unseen` and the
    blank lines behind comments, with `added` behind it, or else `client`, or `error`'s members. `ends_in_error`: what the error event
    says. The money: `usage` and `bill_nanos`; `counted` where nobody said, so that the relay counted.
    """

    provider: str
    name: str
    says: str
    request: dict[str, Any] = field(default_factory=dict)
    endpoint: str = "chat/completions"
    stream: bool = False
    asks_usage: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    split: str | int = "events"
    framing: str = ""
    ending: str = "whole"
    refuses: str | None = None
    refusal: str = ""
    refusal_status: int = 400
    client_status: int = 200
    unseen: list[int] = field(default_factory=list)
    added: str = ""
    client: str | None = None
    error: dict[str, Any] | None = None
    ends_in_error: str | None = None
    fails_over: bool = False
    others_unharmed: bool = True
    usage: dict[str, int] | None = None
    bill_nanos: int = 0
    counted: bool = False
    text: str | None = None
    tool_calls: list[dict[str, str]] = field(default_factory=list)
    finish_reason: str | None = None
    told_usage: list[int] | None = None
    vectors: int = 0

    @property
    def id(self) -> str:
        return f"{self.provider}-{self.name}"

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the call, without the model."""
        if self.endpoint == "embeddings":
            return {"input": ["one", "two"], **self.request}
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello."}]}
        asked["max_completion_tokens"] = 5_000
        if self.stream:
            asked["stream"] = True
            if self.asks_usage:
                asked["stream_options"] = {"include_usage": True}
        return asked | self.request

    @property
    def raw(self) -> bytes:
        return self.body.encode()

    @property
    def seen_by_caller(self) -> bytes:
        """What the caller must get, without what the relay adds in comments."""
        if self.client is not None:
            return self.client.encode()
        events = events_of(self.raw)
        hidden = {index % len(events) for index in self.unseen}
        kept = [event for index, event in enumerate(events) if index not in hidden]
        return b"".join(map(_calmed, kept)) + self.added.encode()

    @property
    def pieces(self) -> list[bytes]:
        """The body as it is cut on its way."""
        raw = self.raw
        if self.split == "whole" or not self.stream:
            return [raw]
        if self.split == "events":
            return events_of(raw)
        assert isinstance(self.split, int)
        return [raw[at : at + self.split] for at in range(0, len(raw), self.split)]


def _calmed(event: bytes) -> bytes:
    """A comment stands directly before the next event: some clients take the blank line behind it
    for an event with nothing in it."""
    if not event.startswith(b":"):
        return event
    return event.rstrip(b"\r\n") + event[-1:]


def events_of(raw: bytes) -> list[bytes]:
    """A stream's events, each with what ends it; they joined are `raw`."""
    return [event for event in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", raw) if event]


def read_rows() -> list[Row]:
    """Every recorded exchange, in the order of the files."""
    rows: list[Row] = []
    for path in sorted(FOLDER.glob("*.toml")):
        recorded = tomllib.loads(path.read_text())
        assert recorded["sources"], f"{path.name} names no page that documents it"
        for given in recorded["rows"]:
            members = {**given}
            if "request" in members:
                members["request"] = json.loads(members["request"])
            rows.append(Row(provider=path.stem, **members))
    assert len({row.id for row in rows}) == len(rows), "two rows share a name"
    return rows


ROWS = read_rows()


def bill_of(usage: dict[str, int]) -> int:
    """The price table's arithmetic, apart from the relay's own."""
    cached, written = usage.get("cached", 0), usage.get("cache_write", 0)
    plain = usage["input"] - cached - written
    return (
        plain * NANOS["input"]
        + cached * NANOS["cached"]
        + written * NANOS["cache_write"]
        + usage["output"] * NANOS["output"]
    )


def settings(url: str) -> str:
    """A relay before all of them: one alias a row, of a deployment of its own; a second one, that
    always answers, stands behind it where another may do better."""
    lines = ["[credits]", 'start = "1000"', "[retries]", "attempts_max = 2"]
    lines += ["backoff_base_s = 0.001", "backoff_throttled_s = 0.001"]
    lines += [_deployment("second", f"{url}/-second/v1")]
    for row in ROWS:
        lines.append(_deployment(row.id, f"{url}/{row.id}/v1"))
    for row in ROWS:
        deployments = [row.id, "second"] if row.fails_over else [row.id]
        lines += [f"[aliases.'at-{row.id}']", f"deployments = {json.dumps(deployments)}"]
    return "\n".join(lines) + "\n"


def _deployment(name: str, base_url: str) -> str:
    return f"""
[[deployments]]
name = "{name}"
base_url = "{base_url}"
upstream_model = "recorded"
credential = "env:RECORDED_CREDENTIAL"
headers = {{ api-key = "env:RECORDED_HEADER" }}
idle_timeout_s = 3
first_token_timeout_s = 5
answer_timeout_s = 5
{PRICE}
"""


ENVIRONMENT = {"RECORDED_CREDENTIAL": CREDENTIAL, "RECORDED_HEADER": HEADER_SECRET}
