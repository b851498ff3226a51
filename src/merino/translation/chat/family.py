"""`chat/completions` as translations know it."""

from __future__ import annotations

from merino.domain.usage import Usage
from merino.translation.bridge import Family
from merino.translation.chat.answer_read import ChatReader
from merino.translation.chat.answer_written import ChatWriter
from merino.translation.chat.request_read import read_request
from merino.translation.chat.request_written import write_request
from merino.wire.chat import CHAT
from merino.wire.usage import parse_chat_response


def _usage_of(body: bytes) -> Usage | None:
    return parse_chat_response(body).usage


CHAT_FAMILY = Family(
    CHAT, "chat completions", write_request, ChatReader, _usage_of, read_request, ChatWriter
)
