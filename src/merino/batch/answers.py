"""What an upstream's answer to an item comes to, read as the relay reads it.

Pure: takes a status and a body, and says what it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from merino.client.answers import FINAL_CODES
from merino.domain.errors import Verdict
from merino.domain.usage import Usage
from merino.wire.errors import read_error
from merino.wire.lenient import decode_lenient
from merino.wire.served import BATCH_PATHS

NOT_JSON = "the answer is not JSON"
NO_ANSWER = "no_answer"
"""The code of a 200 that holds neither an answer nor a code of its own."""
_VAGUE_TYPES = frozenset((None, "", "upstream_error", "error", "api_error"))


class Answer(NamedTuple):
    """`code` and `message` say why it is no answer, if it is none, and `verdict` what that is
    about; `served_at` is a service tier."""

    body: Any = None
    code: str = ""
    message: str = ""
    usage: Usage | None = None
    served_at: str | None = None
    verdict: Verdict = "failed"


def read_answer(url: str, status: int, data: bytes) -> Answer:
    """`url` is one of `BATCH_PATHS`. A status of 200 makes no answer: an error in any vendor's
    words, no choice, no output or no embedding is a failure."""
    is_answered = 200 <= status < 300
    try:
        body = decode_lenient(data)
    except ValueError:
        return Answer(code=NOT_JSON if is_answered else "", message=NOT_JSON if data else "")
    if not is_answered:
        told = read_error(cast("dict[str, Any]", body)) if isinstance(body, dict) else None
        if told is None:
            return Answer(body)
        message, kind, _, code = told
        return Answer(body, kind if kind in FINAL_CODES else code or "", message)
    try:
        read = BATCH_PATHS[url].read_answer(data)
    except ValueError as error:
        return Answer(body, NO_ANSWER, str(error))
    if read.is_error:
        kind = None if read.error_type in _VAGUE_TYPES else read.error_type
        return Answer(
            body, read.error_code or kind or NO_ANSWER, read.error_message or "", read.usage
        )
    return Answer(body, usage=read.usage, served_at=read.service_tier)
