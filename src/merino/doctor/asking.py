"""HTTP as the doctor speaks it: one small request, and what came of it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import httpx2

from merino import __version__

BODY_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names in small letters; moments are epoch seconds of this machine's clock."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked_at_s: float
    answered_at_s: float

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object; empty if it is none."""
        try:
            value: object = json.loads(self.body)
        except ValueError:
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object; empty if there is none."""
        inner: object = self.content.get("error")
        return cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}

    @property
    def error_code(self) -> str:
        return str(self.error.get("code") or "")

    @property
    def message(self) -> str:
        """What the server said, as one line."""
        text = str(self.error.get("message") or self.body[:200].decode("utf-8", "replace"))
        return " ".join(text.split())[:500] or f"status {self.status} and nothing else"


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is none. `tls_error` is set where a handshake failed behind a proxy."""

    reason: str
    is_timeout: bool = False
    tls_error: ssl.SSLError | None = None


class Asker:
    """One connection pool for the doctor's requests. Never retries, never follows redirects."""

    def __init__(self, context: ssl.SSLContext, proxy: str | None, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client = httpx2.Client(
            verify=context,
            proxy=proxy,
            timeout=timeout_s,
            trust_env=False,
            headers={"user-agent": f"merino-doctor/{__version__}", "accept-encoding": "identity"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(
        self,
        url: str,
        *,
        key: str = "",
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer | NoAnswer:
        """GET, or POST if there is a body."""
        timeout_s = timeout_s or self._timeout_s
        sent = dict(headers or {})
        if key:
            sent["authorization"] = f"Bearer {key}"
        method = "GET" if body is None else "POST"
        asked_at_s = time.time()
        try:
            with self._client.stream(
                method, url, headers=sent, json=body, timeout=timeout_s
            ) as response:
                # The head's arrival: a slow body must not count as a slow clock.
                answered_at_s = time.time()
                content = bytearray()
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > BODY_BYTES_MAX:
                        break
        except httpx2.TimeoutException:
            return NoAnswer(f"no answer within {timeout_s:g} s", is_timeout=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            return NoAnswer(reason, tls_error=_tls_error(error))
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, names, bytes(content), asked_at_s, answered_at_s)


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None
