"""`generateContent` as translations know it: a family of upstreams only."""

from __future__ import annotations

from merino.domain.usage import Usage
from merino.translation.bridge import Upstream
from merino.translation.gemini.answer_read import GeminiAnswerReader
from merino.translation.gemini.request_written import write_request
from merino.wire.gemini import GEMINI, read_gemini


def _usage_of(body: bytes) -> Usage | None:
    return read_gemini(body).usage


GEMINI_FAMILY = Upstream(GEMINI, "Gemini's API", write_request, GeminiAnswerReader, _usage_of)
