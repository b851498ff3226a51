"""`messages` as translations know it."""

from __future__ import annotations

from merino.domain.usage import Usage
from merino.translation.bridge import Family
from merino.translation.messages.answer_read import MessagesAnswerReader
from merino.translation.messages.answer_written import MessagesWriter
from merino.translation.messages.request_read import read_request
from merino.translation.messages.request_written import write_request
from merino.wire.message_object import read_message
from merino.wire.messages import MESSAGES


def _usage_of(body: bytes) -> Usage | None:
    return read_message(body).usage


MESSAGES_FAMILY = Family(
    MESSAGES,
    "the Messages API",
    write_request,
    MessagesAnswerReader,
    _usage_of,
    read_request,
    MessagesWriter,
)
