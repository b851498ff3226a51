"""`generateContent`, of Gemini's API: what upstreams are asked and answer. No caller speaks it."""

from __future__ import annotations

from typing import Any, cast

from merino.domain.usage import Usage
from merino.wire.endpoints import Endpoint
from merino.wire.errors import NOTHING_SAID, ErrorParts, error_told, read_error
from merino.wire.fields import model_of, parse_fields
from merino.wire.lenient import decode_lenient
from merino.wire.reported_usage import clamped, number_of
from merino.wire.request import ModelRequest
from merino.wire.splitting import EVENT_BYTES_MAX, Event, EventKind, EventSplitter
from merino.wire.sse import data_of
from merino.wire.usage import ChatResult, text_or_none

NAME = "generateContent"
BLOCKED = "blocked: "
"""What stands before the reason if the prompt itself was refused: there is no candidate then."""


class GeminiRequest(ModelRequest):
    """The model, and whether its answer is streamed, stand in the path."""

    def set_model(self, upstream_model: str) -> None:
        """Nothing of it is in the body."""


def parse_gemini(body: bytes) -> GeminiRequest:
    """Read what a translation wrote: a body with `model` and `stream` beside its fields."""
    fields = parse_fields(body)
    model, stream = model_of(fields.pop("model", None)), fields.pop("stream", None)
    request = GeminiRequest(GEMINI, model, fields, None)
    request.stream = stream is not None and bytes(stream) == b"true"
    return request


def usage_told(metadata: object) -> Usage | None:
    """What `usageMetadata` says: the thoughts lie beside the candidates, what tools brought beside
    the prompt, and what came from a cache within it."""
    if not isinstance(metadata, dict):
        return None
    members = cast("dict[str, Any]", metadata)

    def count(name: str) -> int:
        return number_of(members.get(name)) or 0

    if "promptTokenCount" not in members and "candidatesTokenCount" not in members:
        return None
    thought = count("thoughtsTokenCount")
    inputs = _by_kind(members.get("promptTokensDetails"))
    for kind, tokens in _by_kind(members.get("cacheTokensDetails")).items():
        inputs[kind] = max(0, inputs.get(kind, 0) - tokens)  # these cost what cached ones cost
    for kind, tokens in _by_kind(members.get("toolUsePromptTokensDetails")).items():
        inputs[kind] = inputs.get(kind, 0) + tokens
    outputs = _by_kind(members.get("candidatesTokensDetails"))
    return clamped(
        count("promptTokenCount") + count("toolUsePromptTokenCount"),
        count("candidatesTokenCount") + thought,
        count("cachedContentTokenCount"),
        0,
        thought,
        inputs.get("IMAGE", 0) + inputs.get("VIDEO", 0),
        inputs.get("AUDIO", 0),
        outputs.get("AUDIO", 0),
    )


def _by_kind(details: object) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in cast("list[Any]", details) if isinstance(details, list) else ():
        if isinstance(each, dict):
            members = cast("dict[str, Any]", each)
            kind = str(members.get("modality"))
            found[kind] = found.get(kind, 0) + (number_of(members.get("tokenCount")) or 0)
    return found


def candidate_of(members: dict[str, Any]) -> dict[str, Any]:
    """The first candidate of an answer or event; empty if there is none."""
    listed: object = members.get("candidates")
    first: object = cast("list[Any]", listed)[0] if isinstance(listed, list) and listed else None
    return cast("dict[str, Any]", first) if isinstance(first, dict) else {}


def parts_of(members: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of its content."""
    content: object = candidate_of(members).get("content")
    listed: object = (
        cast("dict[str, Any]", content).get("parts") if isinstance(content, dict) else None
    )
    parts = cast("list[Any]", listed) if isinstance(listed, list) else []
    return [cast("dict[str, Any]", each) for each in parts if isinstance(each, dict)]


def reason_of(members: dict[str, Any]) -> str | None:
    """Why the model stopped, or why the prompt was refused."""
    reason = text_or_none(candidate_of(members).get("finishReason"))
    if reason is not None:
        return reason
    feedback: object = members.get("promptFeedback")
    if isinstance(feedback, dict):
        blocked = text_or_none(cast("dict[str, Any]", feedback).get("blockReason"))
        return None if blocked is None else BLOCKED + blocked
    return None


def read_gemini(body: bytes) -> ChatResult:
    """Read a whole answer. Raises `ValueError` if it is not a JSON object."""
    value = decode_lenient(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    members = cast("dict[str, Any]", value)
    usage, reason = usage_told(members.get("usageMetadata")), reason_of(members)
    if reason is None and not parts_of(members):
        said, kind, _, code = error_told(members) or (
            "The upstream answered 200 without any candidate.",
            *NOTHING_SAID[1:],
        )
        return ChatResult(
            usage, is_error=True, error_message=said, error_type=kind, error_code=code
        )
    return ChatResult(usage, reason, has_content=bool(parts_of(members)))


class GeminiReader(EventSplitter):
    """Finds the events of a stream, for who translates them. It has no last event: the answer ends
    with its reason, and the stream with its end."""

    __slots__ = ("error", "failure", "finish_reason", "has_content", "usage")
    sealed: tuple[bytes, ...] = ()
    units = ()
    service_tier: str | None = None
    id: str | None = None
    ending = final = b""
    output_bytes = reasoning_bytes = wide_bytes = 0
    is_at_done = False

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        super().__init__(event_bytes_max)
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.has_content = False
        self.failure: dict[str, Any] | None = None
        self.error: ErrorParts | None = None

    @property
    def is_complete(self) -> bool:
        return self.finish_reason is not None

    @property
    def has_finished(self) -> bool:
        return self.is_complete

    def feed_one(self, data: bytes) -> EventKind | None:
        return None

    def _read(self, raw: bytes) -> Event:
        self._check_size(len(raw))
        payload = data_of(raw).strip()
        if not payload:
            return Event(raw, "comment")
        try:
            value = decode_lenient(payload)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            return Event(raw, "comment" if self.is_complete else "garbage")
        members = cast("dict[str, Any]", value)
        if members.get("error"):
            self.error = read_error(members) or NOTHING_SAID
            self.failure = members
            return Event(raw, "error")
        self.usage = usage_told(members.get("usageMetadata")) or self.usage
        self.finish_reason = reason_of(members) or self.finish_reason
        if parts_of(members):
            self.has_content = True
            return Event(raw, "content")
        return Event(raw, "other")


GEMINI = Endpoint(
    NAME,
    parse_gemini,
    read_gemini,
    GeminiReader,
    reports_usage=True,
    is_batched=False,
)
