"""Carries the calls of one family to another, and the answers back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from merino.domain.usage import Usage
from merino.translation.answered import AnswerReader, AnswerWriter, Made
from merino.translation.asked import Asked
from merino.translation.tool_names import ToolNames
from merino.translation.values import encode
from merino.wire.endpoints import Endpoint, EventReader
from merino.wire.errors import NOTHING_SAID, ErrorParts, read_error
from merino.wire.fields import Fields
from merino.wire.request import ModelRequest
from merino.wire.sse import EVENT_BYTES_MAX, Event, comment_lines

ReadAnswer = Callable[[bytes], Usage | None]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A dialect in which upstreams are asked. `title` is its name in messages.

    `write_request` gives the fields of a body, and the names under which tools go out; `usage_of`
    reads what a whole answer says it used.
    """

    endpoint: Endpoint
    title: str
    write_request: Callable[[Asked], tuple[Fields, ToolNames]]
    new_reader: Callable[[AnswerWriter], AnswerReader]
    usage_of: ReadAnswer


@dataclass(frozen=True, slots=True)
class Family(Upstream):
    """A dialect that callers speak, too. `read_request` takes the fields of a body and the title of
    the dialect it goes to."""

    read_request: Callable[[Fields, str], Asked]
    new_writer: Callable[[Asked, Made, ToolNames, bool], AnswerWriter]


class Bridge:
    """From the caller's family to the upstream's: the translation of one pair."""

    def __init__(self, caller: Family, upstream: Upstream) -> None:
        self._caller = caller
        self._upstream = upstream
        self.target = upstream.endpoint

    def carry(self, request: ModelRequest, made: Made) -> Carried:
        """The call in the upstream's dialect. Raises `InvalidCall` that names a field."""
        asked = self._caller.read_request(dict(request.fields), self._upstream.title)
        asked.made = made
        return Carried(self._caller, self._upstream, asked, made)


class Carried:
    """One call on its way: its body, and what becomes of the answers of its attempts."""

    def __init__(self, caller: Family, upstream: Upstream, asked: Asked, made: Made) -> None:
        self._caller = caller
        self._upstream = upstream
        self._asked = asked
        self._made = made
        fields, self._names = upstream.write_request(asked)
        self.body = encode(fields)
        self.told = tuple(condensed(asked.told))
        self.dispensable = asked.dispensable
        # What is kept for the answer does not need what was said.
        asked.items.clear()

    def answer(self, body: bytes) -> bytes:
        """A whole answer in the caller's dialect. Raises `ValueError` for what is no JSON object;
        an error that came as an answer stays as it is."""
        if self._upstream.endpoint.read_answer(body).is_error:
            return body
        writer = self._writer(is_stream=False)
        self._upstream.new_reader(writer).answer(body)
        return writer.whole(self._upstream.usage_of(body))

    def stream(self) -> StreamTranslator:
        """A stream of the upstream in the caller's dialect; each attempt has its own."""
        new_reader = self._upstream.endpoint.new_reader
        assert new_reader is not None, "both families have streams"
        writer = self._writer(is_stream=True)
        return StreamTranslator(
            new_reader(EVENT_BYTES_MAX), self._upstream.new_reader(writer), writer
        )

    def _writer(self, *, is_stream: bool) -> AnswerWriter:
        return self._caller.new_writer(self._asked, self._made, self._names, is_stream)


_PLACE = re.compile(r"\[\d+\]")
_SAME_MAX = 3


def condensed(told: list[str]) -> list[str]:
    """What was changed in many places is told once: a long conversation has hundreds of them, and a
    header has little room."""
    same: dict[str, list[str]] = {}
    for each in told:
        same.setdefault(_PLACE.sub("[*]", each), []).append(each)
    found: list[str] = []
    for pattern, several in same.items():
        found += several if len(several) <= _SAME_MAX else [f"{pattern} ({len(several)} times)"]
    return found


class StreamTranslator:
    """`splitter` finds the events, and judges them as it does for callers of its own dialect."""

    def __init__(self, splitter: EventReader, reader: AnswerReader, writer: AnswerWriter) -> None:
        self._splitter = splitter
        self._reader = reader
        self._writer = writer
        self._is_between_events = False
        self._is_over = False

    @property
    def has_finished(self) -> bool:
        """Whether the model has ended its answer, though its stream may go on."""
        return self._splitter.has_finished

    def feed(self, data: bytes) -> bytes:
        """The caller's events for these bytes. Raises `ValueError` for an event that is too
        long."""
        if self._is_over:
            return b""
        if self._is_between_events and self._reader.plain(data):
            return self._writer.take()
        kind = self._splitter.feed_one(data)
        if kind is not None:
            self._is_between_events = True
            return self._translate(Event(data, kind))
        self._is_between_events = False
        return self._translate_all(self._splitter.feed(data))

    def finish(self) -> bytes:
        """What is left at the end of the upstream's stream. If that is not the end of the answer,
        nothing says that it is."""
        if self._is_over:
            return b""
        rest = self._translate_all(self._splitter.finish())
        return rest + self._end() if not self._is_over and self._splitter.is_complete else rest

    def _translate_all(self, events: list[Event]) -> bytes:
        return b"".join([self._translate(event) for event in events])

    def _translate(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        kind = event.kind
        if kind == "comment":
            lines = comment_lines(event.raw)
            return lines + b"\n" if lines else b""
        if kind == "error":
            return self._fail(read_error(self._splitter.failure or {}) or NOTHING_SAID)
        if kind == "garbage":
            said = "The upstream sent an event that is not JSON."
            return self._fail((said, "upstream_error", None, "upstream_invalid_response"))
        if kind != "done":
            self._reader.event(event.raw)
            return self._writer.take()
        self._reader.event(event.raw)
        return self._writer.take() + self._end()

    def _end(self) -> bytes:
        self._is_over = True
        splitter = self._splitter
        if not splitter.has_content and splitter.finish_reason is None:
            return b""  # no answer: the same as a stream that was cut
        return self._writer.end(splitter.usage)

    def _fail(self, error: ErrorParts) -> bytes:
        self._is_over = True
        return self._writer.take() + self._writer.fail(error, self._splitter.usage)
