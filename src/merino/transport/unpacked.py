"""An answer that came compressed, as if it had not."""

from __future__ import annotations

from collections.abc import Callable

from merino.transport.connection import UpstreamConnection
from merino.wire.collecting import collected
from merino.wire.exchange import Headers
from merino.wire.unpacking import Unpacker

_OF_THE_PACKED = frozenset((b"content-encoding", b"content-length"))


class UnpackedResponse:
    """An `UpstreamResponse` over one whose body is compressed. Raises `UpstreamBroken` when made,
    if it could not be unpacked."""

    has_finished = False

    def __init__(self, connection: UpstreamConnection, codings: bytes, bytes_max: int) -> None:
        self._unpacker = Unpacker(codings, bytes_max)
        self._connection = connection
        self.status = connection.status
        self.connect_s = connection.connect_s
        self.header_like = connection.header_like
        self.pause, self.resume = connection.pause, connection.resume
        self.end, self.close = connection.end, connection.close

    @property
    def headers(self) -> Headers:
        return [each for each in self._connection.headers if each[0] not in _OF_THE_PACKED]

    def header(self, name: bytes) -> bytes | None:
        return None if name in _OF_THE_PACKED else self._connection.header(name)

    def whole(self, bytes_max: int) -> bytes | None:
        """Has to be unpacked first."""
        return None

    async def read(self, bytes_max: int) -> bytes:
        return await collected(self.pipe, bytes_max)

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        unpacker = self._unpacker

        def unpack(data: bytes) -> None:
            for piece in unpacker.feed(data):
                sink(piece)

        await self._connection.pipe(unpack)
        unpacker.finish()
