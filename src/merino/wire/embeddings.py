"""`embeddings`."""

from __future__ import annotations

from merino.domain.errors import InvalidCall
from merino.wire.endpoints import Endpoint
from merino.wire.fields import check_filled_list, missing, model_of, parse_fields, text_of
from merino.wire.request import ModelRequest
from merino.wire.usage import ChatResult, parse_embeddings_response


def parse_embeddings(body: bytes) -> ModelRequest:
    """Read a body of `embeddings`. Raises `InvalidCall` that names the field."""
    fields = parse_fields(body)
    request = ModelRequest(EMBEDDINGS, model_of(fields.get("model")), fields, body)
    texts = fields.get("input")
    if texts is None:
        missing("input")
    if memoryview(texts)[0] == 0x22:
        if len(texts) == 2:
            raise InvalidCall(
                "Invalid 'input': the string is empty; send the text to embed.",
                param="input",
                code="invalid_value",
            )
    else:
        check_filled_list("input", texts, "a string or an array")
    if (raw := fields.get("service_tier")) is not None:
        request.service_tier = text_of("service_tier", raw)
    return request


def _read_answer(body: bytes) -> ChatResult:
    answer = parse_embeddings_response(body)
    return ChatResult(
        usage=answer.usage, is_error=answer.is_error, error_message=answer.error_message
    )


EMBEDDINGS = Endpoint("embeddings", parse_embeddings, _read_answer, has_output=False)
