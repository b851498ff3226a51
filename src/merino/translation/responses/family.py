"""`responses` as translations know it."""

from __future__ import annotations

from merino.domain.usage import Usage
from merino.translation.bridge import Family
from merino.translation.responses.answer_read import ResponsesAnswerReader
from merino.translation.responses.answer_written import ResponsesWriter
from merino.translation.responses.request_read import read_request
from merino.translation.responses.request_written import write_request
from merino.wire.response_object import read_response
from merino.wire.responses import RESPONSES


def _usage_of(body: bytes) -> Usage | None:
    return read_response(body).usage


RESPONSES_FAMILY = Family(
    RESPONSES,
    "the Responses API",
    write_request,
    ResponsesAnswerReader,
    _usage_of,
    read_request,
    ResponsesWriter,
)
