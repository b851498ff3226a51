"""What a call's answer brought and when: the relay's own reading, with a clock beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from time import perf_counter
from typing import Any, cast

from merino.bench.samples import CallSample
from merino.domain.errors import UpstreamBroken
from merino.domain.usage import Usage
from merino.wire.endpoints import EventReader
from merino.wire.lenient import decode_lenient
from merino.wire.produced import only_thinks, visible_text
from merino.wire.reported_usage import Unsplit
from merino.wire.splitting import Event
from merino.wire.sse import data_of

_DETAIL_MAX = 200
_WHOLE_ITEM = b"event: response.output_item.done"
_EVENTS = (b"data:", b"event")
_COST = re.compile(rb"(?:\A|[\r\n]): ?x-merino-cost:([^\r\n]*)")


class TimedReader:
    """Reads a stream as it comes. All events of one read arrived at one moment.

    `tokens` counts the events that brought something. A token is thought if its event brought
    nothing that is seen. With `keeps_text`, what was said is kept.
    """

    def __init__(
        self, stream: EventReader, sample: CallSample, began: float, *, keeps_text: bool
    ) -> None:
        self.stream = stream
        self._sample = sample
        self._began = began
        self._now = 0.0
        self._kept: list[bytes] | None = [] if keeps_text else None
        self.tokens = 0
        self.cost: bytes | None = None
        self.garbage: str | None = None
        """The first event that is no JSON object."""
        self.rest = b""
        """What stood at the end and was no event."""

    def feed(self, data: bytes) -> None:
        """Raises `UpstreamBroken` if an event is too large."""
        self._now = now = perf_counter() - self._began
        stream = self.stream
        visible_before, thought_before = stream.output_bytes, stream.reasoning_bytes
        kind = stream.feed_one(data)
        if kind == "content":
            if self._kept is not None:
                self._kept.append(data)
            self._note(now, 1, visible_before, thought_before, data)
            return
        events = self._events(data) if kind is None else [Event(data, kind)]
        self._take(events, now, visible_before, thought_before)

    def _events(self, data: bytes) -> list[Event]:
        """Of a read that is not just one event. Most of many are of the kind that is read fast."""
        stream = self.stream
        events: list[Event] = []
        *whole, rest = data.split(b"\n\n")
        try:
            for piece in whole:
                raw = piece + b"\n\n"
                kind = stream.feed_one(raw)
                if kind is None:
                    events += stream.feed(raw)
                else:
                    events.append(Event(raw, kind))
            if rest:
                events += stream.feed(rest)
        except ValueError as error:
            raise UpstreamBroken(str(error)) from None
        return events

    def finish(self) -> None:
        """The stream ended: an event may lack its blank line, or was cut."""
        stream = self.stream
        visible_before, thought_before = stream.output_bytes, stream.reasoning_bytes
        events = stream.finish()
        cut = [each for each in events if each.kind in ("garbage", "comment")]
        self.rest = b"".join(each.raw for each in cut)
        self._take(
            [each for each in events if each.kind != "garbage"],
            self._now,
            visible_before,
            thought_before,
        )

    def text(self) -> str:
        """What was said, if it was kept."""
        return "".join(visible_text(each) for raw in self._kept or () for each in _deltas(raw))

    def _take(
        self, events: list[Event], now: float, visible_before: int, thought_before: int
    ) -> None:
        tokens = 0
        last = b""
        for event in events:
            raw, kind = event.raw, event.kind
            if kind == "content":
                if self.tokens and raw.startswith(_WHOLE_ITEM):
                    continue  # what came in pieces, once more
                tokens += 1
                last = raw
                if self._kept is not None:
                    self._kept.append(raw)
            elif kind == "garbage" and self.garbage is None:
                self.garbage = f"an event is not JSON: {shown(data_of(raw))}"
            if raw[:5] not in _EVENTS and (found := _COST.search(raw)) is not None:
                self.cost = found[1].strip()
        if tokens:
            self._note(now, tokens, visible_before, thought_before, last)

    def _note(
        self, now: float, tokens: int, visible_before: int, thought_before: int, raw: bytes
    ) -> None:
        """Tokens came; `raw` is the last event that brought some."""
        sample = self._sample
        if sample.first_token_s is None:
            sample.first_token_s = now
        elif sample.last_token_s is not None:
            sample.gaps_ms.append((now - sample.last_token_s) * 1000)
        if sample.first_visible_s is None:
            is_seen = self.stream.output_bytes > visible_before
            if not is_seen and self.stream.reasoning_bytes == thought_before:
                # No text: an image, or thinking that is encrypted.
                is_seen = not all(map(only_thinks, _deltas(raw)))
            if is_seen:
                sample.first_visible_s = now
        sample.last_token_s = now
        self.tokens += tokens


def _deltas(raw: bytes) -> Iterable[dict[str, Any]]:
    """What each choice of an event brought."""
    try:
        return pieces_of(decode_lenient(data_of(raw)))
    except ValueError:
        return ()


def pieces_of(answer: object) -> list[dict[str, Any]]:
    """The messages of a decoded answer, or the pieces of messages of an event."""
    if not isinstance(answer, dict):
        return []
    told = cast("dict[str, Any]", answer)
    if "choices" not in told:
        return _of_response(told)
    choices: object = told["choices"]
    found: list[dict[str, Any]] = []
    for choice in cast("list[object]", choices) if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            members = cast("dict[str, Any]", choice)
            piece: object = members.get("delta") or members.get("message")
            if isinstance(piece, dict):
                found.append(cast("dict[str, Any]", piece))
            elif members.get("text"):
                found.append({"text": members["text"]})
    return found


def _of_response(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The same of the Responses API: its texts, as a chat would say them."""
    if told.get("type") == "response.output_text.delta":
        return [{"content": told.get("delta")}]
    output: object = told.get("output")
    found: list[dict[str, Any]] = []
    for item in cast("list[Any]", output) if isinstance(output, list) else ():
        parts: object = item.get("content") if isinstance(item, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
        if isinstance(item, dict) and item.get("type") == "message" and isinstance(parts, list):  # pyright: ignore[reportUnknownMemberType]
            found += [
                {"content": part["text"]}
                for part in cast("list[Any]", parts)
                if isinstance(part, dict) and isinstance(part.get("text"), str)  # pyright: ignore[reportUnknownMemberType]
            ]
    return found


def note_usage(
    sample: CallSample, said: Usage | None, *, counted: int, input_tokens_estimate: int
) -> Usage | None:
    """Put the tokens into the sample: as reported, and where nothing is, as counted. Returns what
    was reported, if the whole of it was."""
    if isinstance(said, Unsplit):
        # Only the total is known, and our own estimate of one part.
        input_tokens = min(input_tokens_estimate, said.output_tokens)
        said = Usage(input_tokens, said.output_tokens - input_tokens)
    if said is None:
        said = Usage()
    sample.input_tokens = said.input_tokens or input_tokens_estimate
    sample.output_tokens = said.output_tokens or counted
    sample.cached_tokens = said.cached_tokens
    sample.reasoning_tokens = said.reasoning_tokens
    if said.input_tokens and (said.output_tokens or not counted):
        return said
    if not said.output_tokens:
        sample.tokens_source = "counted"
    return None


def shown(data: bytes) -> str:
    """The beginning of what a server sent, as it may stand in a report."""
    text = data[: 2 * _DETAIL_MAX].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_DETAIL_MAX]
