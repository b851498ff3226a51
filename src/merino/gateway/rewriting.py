"""Answers on their way to the caller, with what the relay says of them: that it keeps them, and
what they go on from. Only the few events that bring the whole response are changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from merino.domain.errors import UpstreamBroken
from merino.gateway.on_the_way import ResponseOnTheWay
from merino.gateway.ports import UpstreamResponse
from merino.wire.splitting import EVENT_BYTES_MAX

Changes = Mapping[str, msgspec.Raw]

_Members = dict[str, msgspec.Raw]
_decode = msgspec.json.Decoder(_Members).decode
_encode = msgspec.json.encode
_RESPONSE = b'"response"'
_ITEM_DONE = b'"response.output_item.done"'
_EMPTY = (b"", b"[]", b"null")
_DATA = b"data:"


def rewritten(response: bytes, changes: Changes, said: Sequence[msgspec.Raw] = ()) -> bytes:
    """A response object with these members; anything else stays as it is. `said` are the items
    that came before it, which some servers leave out of it."""
    try:
        members = _decode(response)
    except msgspec.DecodeError:
        return response
    if bytes(members.get("object", b"")) != b'"response"':
        return response
    if said and bytes(members.get("output", b"")) in _EMPTY:
        members["output"] = msgspec.Raw(_encode(said))
    return _encode({**members, **changes})


class RewrittenResponse(ResponseOnTheWay):
    """An upstream's answer with these members in the response that it brings."""

    def __init__(self, response: UpstreamResponse, changes: Changes) -> None:
        super().__init__(response)
        self._changes = changes

    @property
    def has_finished(self) -> bool:
        return self._response.has_finished

    def whole(self, bytes_max: int) -> bytes | None:
        body = self._response.whole(bytes_max)
        return None if body is None else rewritten(body, self._changes)

    async def read(self, bytes_max: int) -> bytes:
        return rewritten(await self._response.read(bytes_max), self._changes)

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        events = _Events(self._changes, sink)
        await self._response.pipe(events.feed)
        events.finish()


class _Events:
    """Whole events, in whatever pieces they come. What has the form of a piece of text goes on
    without being looked at."""

    def __init__(self, changes: Changes, sink: Callable[[bytes], None]) -> None:
        self._changes = changes
        self._sink = sink
        self._held = bytearray()
        self._said: list[msgspec.Raw] = []

    def feed(self, data: bytes) -> None:
        held = self._held
        held += data
        end = _last_end(held)
        if not end:
            if len(held) > EVENT_BYTES_MAX:
                raise UpstreamBroken(
                    f"an event of the stream is larger than {EVENT_BYTES_MAX} bytes.",
                    code="upstream_event_too_large",
                )
            return
        ready = bytes(held[:end])
        del held[:end]
        is_telling = _RESPONSE in ready or _ITEM_DONE in ready
        self._sink(self._changed(ready) if is_telling else ready)

    def finish(self) -> None:
        if self._held:
            self._sink(self._changed(bytes(self._held)))
            self._held.clear()

    def _changed(self, events: bytes) -> bytes:
        return b"".join([self._line(line) for line in events.splitlines(keepends=True)])

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(_DATA):
            return line
        if _ITEM_DONE in line:
            self._note(line)
        if _RESPONSE not in line:
            return line
        body = line[len(_DATA) :].strip()
        try:
            members = _decode(body)
        except msgspec.DecodeError:
            return line
        response = members.get("response")
        if response is None or bytes(memoryview(response)[:1]) != b"{":
            return line
        changed = rewritten(bytes(response), self._changes, self._said)
        members["response"] = msgspec.Raw(changed)
        return b"data: %b%b" % (_encode(members), line[len(line.rstrip(b"\r\n")) :])

    def _note(self, line: bytes) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            members = _decode(line[len(_DATA) :])
            if bytes(members.get("type", b"")) == _ITEM_DONE and "item" in members:
                self._said.append(members["item"])


def _last_end(held: bytearray) -> int:
    """Behind the last event that is whole; 0 if none is."""
    return max(
        at + len(end) if (at := held.rfind(end)) >= 0 else 0
        for end in (b"\n\n", b"\r\n\r\n", b"\r\r")
    )
