"""An upstream's answer that is changed on its way to the caller."""

from __future__ import annotations

from merino.gateway.ports import Headers, UpstreamResponse


class ResponseOnTheWay:
    """What passes on as it is: all but the body. Who changes that adds how it is read."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return self._response.headers

    def header(self, name: bytes) -> bytes | None:
        return self._response.header(name)

    def header_like(self, prefix: bytes) -> bool:
        return self._response.header_like(prefix)

    def end(self) -> None:
        self._response.end()

    def pause(self) -> None:
        self._response.pause()

    def resume(self) -> None:
        self._response.resume()

    def close(self) -> None:
        self._response.close()
