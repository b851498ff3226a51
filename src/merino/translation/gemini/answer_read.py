"""An answer of `generateContent`, read for a writer of another dialect.

A signature belongs to the part that it comes with, and is told before that part: it goes back
before the same one.
"""

from __future__ import annotations

from merino.translation.answered import AnswerWriter, Stop
from merino.translation.values import (
    Members,
    decode,
    encode,
    is_object,
    members_of,
    piece_of,
    text_of,
)
from merino.wire.gemini import BLOCKED, parts_of, reason_of
from merino.wire.seals import CALL, GEMINI, Sealed
from merino.wire.sse import data_of

_STOPS: dict[str, Stop] = {"MAX_TOKENS": "length"}
_FILTERS = frozenset(
    (
        "BLOCKLIST", "IMAGE_OTHER", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_SAFETY",
        "LANGUAGE", "MODEL_ARMOR", "PROHIBITED_CONTENT", "RECITATION", "SAFETY", "SPII",
    )
)  # fmt: skip
"""All others mean that the model was done, or what it made of a call cannot be used: then the text
says what there is."""


class GeminiAnswerReader:
    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._calls = 0
        self._has_named = False
        self.is_ended = False

    def plain(self, event: bytes) -> bool:
        return False

    def event(self, event: bytes) -> None:
        try:
            value: object = decode(data_of(event))
        except ValueError:
            return
        if is_object(value) and not self.is_ended:
            self._take(members_of(value))

    def answer(self, body: bytes) -> None:
        value: object = decode(body)
        if not is_object(value):
            raise ValueError("the answer is no object")
        self._take(members_of(value))
        if not self.is_ended:
            self._stop("STOP")

    def _take(self, members: Members) -> None:
        model = members.get("modelVersion")
        if not self._has_named:
            self._has_named = True
            self._writer.about(model if isinstance(model, str) else None, None)
        for part in parts_of(members):
            self._part(part)
        if (reason := reason_of(members)) is not None:
            self._stop(reason)

    def _part(self, part: Members) -> None:
        signature = part.get("thoughtSignature")
        text = text_of(part.get("text"))
        if part.get("thought") is True:
            if text:
                self._writer.thought(piece_of(text))
            return
        if isinstance(signature, str) and signature:
            place = CALL if "functionCall" in part else None
            self._writer.sealed(Sealed(GEMINI, signature, place))
        if text:
            self._writer.text(piece_of(text))
        called = members_of(part.get("functionCall"))
        if called:
            key = self._calls
            self._calls += 1
            name = piece_of(text_of(called.get("name")))
            self._writer.call(key, text_of(called.get("id")), name)
            given = encode(called.get("args") or {}).decode()
            self._writer.arguments(key, piece_of(given))

    def _stop(self, reason: str) -> None:
        self.is_ended = True
        if reason.startswith(BLOCKED) or reason in _FILTERS:
            self._writer.stop("filter")
        else:
            self._writer.stop(_STOPS.get(reason, "stop"))
