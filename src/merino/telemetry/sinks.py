"""Where finished calls go besides the database: a collector, a file, somebody's address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import httpx2
import msgspec

from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.operations.calls import Call
from merino.operations.shape import shown
from merino.telemetry.shipping import NotSent
from merino.wire.signing import SIGNATURE_HEADER, signature

T = TypeVar("T")
TIMEOUT_S = 10.0
_TRY_AGAIN = frozenset((408, 429, 500, 502, 503, 504))
_encode = msgspec.json.Encoder().encode


class HttpSink(Generic[T]):
    """Sends batches by POST. Redirects are not followed: they could lead a secret elsewhere."""

    def __init__(
        self,
        url: str,
        encode: Callable[[Sequence[T]], bytes],
        headers: Callable[[bytes], dict[str, str]],
    ) -> None:
        self._url = url
        self._encode = encode
        self._headers = headers
        self._client: httpx2.Client | None = None

    def send(self, batch: Sequence[T]) -> None:
        if self._client is None:
            self._client = httpx2.Client(timeout=TIMEOUT_S, trust_env=False)
        body = self._encode(batch)
        headers = {
            "content-type": "application/json",
            "user-agent": "merino",
            **self._headers(body),
        }
        try:
            answer = self._client.post(self._url, content=body, headers=headers)
        except httpx2.InvalidURL as error:
            raise NotSent(f"the address cannot be read: {error}", is_final=True) from None
        except httpx2.HTTPError as error:
            raise NotSent(f"{type(error).__name__}: {error}"[:300]) from None
        if not answer.is_success:
            is_final = answer.status_code not in _TRY_AGAIN
            raise NotSent(f"answered with status {answer.status_code}", is_final=is_final)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def authorized(authorization: str) -> Callable[[bytes], dict[str, str]]:
    """Headers with a credential, if there is one."""
    headers = {"authorization": authorization} if authorization else {}
    return lambda _: headers


def signed(secret: str, now_ms: Callable[[], int] = epoch_ms) -> Callable[[bytes], dict[str, str]]:
    """Headers that show whose body it is, as those of notices do."""
    if not secret:
        return authorized("")
    return lambda body: {SIGNATURE_HEADER: signature(body, secret, now_ms() // 1000)}


def encode_calls(records: Sequence[CallRecord]) -> bytes:
    """``{"calls": […]}``, each as the admin API shows it."""
    return _encode({"calls": [shown(Call, each) for each in records]})


class FileSink:
    """JSON lines. The file is opened anew for each batch, so that it may be moved away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, batch: Sequence[CallRecord]) -> None:
        lines = b"".join(_encode(shown(Call, each)) + b"\n" for each in batch)
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            raise NotSent(f"{self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        pass
