"""The relay's own port: who is listened to, for how long, and how answers are streamed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from merino.settings.declaring import KIB, MIB, Bytes, Seconds, SecondsOrNone, section, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    cert_file: Path | None = setting(
        None, "PEM certificate chain; with `key_file` it turns HTTPS on.", holds="at start"
    )
    key_file: Path | None = setting(None, "PEM private key of `cert_file`.", holds="at start")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    host: str = setting(
        "127.0.0.1", "Address to listen on; `0.0.0.0` for every interface.", holds="at start"
    )
    port: Annotated[int, Meta(ge=0, le=65_535)] = setting(
        8080, "TCP port to listen on; 0 picks a free one.", holds="at start"
    )
    drain_s: SecondsOrNone = setting(
        30.0,
        "How long running calls may go on after SIGTERM before they are cut and settled.",
        holds="at start",
    )
    body_bytes_max: Bytes = setting(32 * MIB, "Largest request body.")
    unauthenticated_body_bytes_max: Bytes = setting(
        64 * KIB, "Largest request body of a caller whose key is not valid."
    )
    head_timeout_s: Seconds = setting(
        10.0, "How long a request's head may take to arrive.", holds="at start"
    )
    body_timeout_s: Seconds = setting(
        60.0,
        "How long a request's body may take to arrive; each 16 KiB give it a second more.",
        holds="at start",
    )
    arriving_bytes_max: Bytes = setting(
        256 * MIB,
        "Most memory that unfinished request bodies take together. Beyond it, whoever holds most"
        " gives way.",
        holds="at start",
    )
    keep_alive_s: SecondsOrNone = setting(
        75.0, "How long an idle client connection is kept.", holds="at start"
    )
    write_timeout_s: Seconds = setting(
        60.0,
        "How long a client may leave a full socket buffer unread before it is cut off.",
        holds="at start",
    )
    tls: TlsSettings = section(TlsSettings, "HTTPS on the relay's own port.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    buffer_bytes: Bytes = setting(
        64 * KIB,
        "Most bytes buffered for a slow reader before the upstream is paused.",
        holds="at start",
    )
    keep_alive_s: Seconds = setting(
        15.0, "Silence after which a comment line is sent, so that nobody in between hangs up."
    )
    event_bytes_max: Bytes = setting(
        8 * MIB,
        "Largest single event an upstream may send; also the most that waits for first content.",
    )
    idle_timeout_s: Seconds = setting(
        60.0, "Longest silence of an upstream in mid-stream; a deployment may set its own."
    )
