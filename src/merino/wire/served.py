"""The endpoints that callers and batches may use."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from merino.domain.errors import InvalidCall
from merino.wire.chat import CHAT
from merino.wire.compaction import COMPACT
from merino.wire.embeddings import EMBEDDINGS
from merino.wire.endpoints import Endpoint
from merino.wire.fields import Fields
from merino.wire.messages import MESSAGES
from merino.wire.responses import RESPONSES

SERVED: Mapping[str, Endpoint] = {
    each.name: each for each in (CHAT, RESPONSES, COMPACT, MESSAGES, EMBEDDINGS)
}
PATHS: Mapping[str, Endpoint] = {f"/v1/{name}": each for name, each in SERVED.items()}
BATCH_PATHS: Mapping[str, Endpoint] = {
    path: each for path, each in PATHS.items() if each.is_batched
}
_OF_RESPONSES = ("input", "previous_response_id", "conversation", "prompt")


def endpoint_meant(query: str, fields: Fields) -> Endpoint:
    """Which endpoint a body is for that came to another path: the one that `endpoint` in the query
    names, such as `/v1/embeddings`. Without it, `messages` make it a chat, and what a response is
    made from a response. Raises `InvalidCall`."""
    named = parse_qs(query).get("endpoint")
    if named is not None:
        found = PATHS.get(named[-1]) or SERVED.get(named[-1])
        if found is None:
            raise InvalidCall(
                f"There is no endpoint '{named[-1][:100]}'; there are {', '.join(PATHS)}.",
                param="endpoint",
                code="invalid_value",
            )
        return found
    if "messages" in fields:
        return CHAT
    if any(name in fields for name in _OF_RESPONSES):
        return RESPONSES
    raise InvalidCall(
        "Missing required parameter: 'messages' of a chat, or 'input' of a response. A body of "
        "another endpoint is told by the query, as in ?endpoint=/v1/embeddings.",
        param="messages",
        code="missing_required_parameter",
    )
