"""`responses/compact`, which makes a long conversation short and is billed like an answer, and
`responses/input_tokens`, which only counts."""

from __future__ import annotations

from merino.wire.endpoints import Endpoint
from merino.wire.fields import model_of, parse_fields, text_of
from merino.wire.request import ModelRequest
from merino.wire.response_object import read_response
from merino.wire.response_state import ResponseState
from merino.wire.responses import parse_responses


class CompactRequest(ModelRequest):
    """A parsed body of `responses/compact`. Its output cannot be limited: the upstream takes no
    such field. What goes beyond its hold is booked as any overrun."""

    def set_output_tokens_max(self, tokens: int, *, reason: str) -> None:
        """Nothing is sent."""


def parse_compact(body: bytes) -> CompactRequest:
    """Read a body of `responses/compact`. Raises `InvalidCall` that names the field."""
    fields = parse_fields(body)
    request = CompactRequest(COMPACT, model_of(fields.get("model")), fields, body)
    for name in ("service_tier", "previous_response_id"):
        raw = fields.get(name)
        if raw is None or bytes(raw) == b"null":
            continue
        found = text_of(name, raw)
        if name == "service_tier":
            request.service_tier = found
        else:
            request.previous_id = found or None
    if request.previous_id is not None:
        request.state = ResponseState(request.previous_id, stored=False)
    return request


def parse_counted(body: bytes) -> ModelRequest:
    """Read a body of `responses/input_tokens`: what a response would be asked with."""
    request = parse_responses(body)
    request.endpoint, request.stream = COUNTED, False
    return request


COMPACT = Endpoint("responses/compact", parse_compact, read_response, is_batched=False)
COUNTED = Endpoint(
    "responses/input_tokens", parse_counted, read_response, has_output=False, is_batched=False
)
"""Not among those that are served as calls: nothing of it is billed."""
