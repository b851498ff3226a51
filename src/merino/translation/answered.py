"""What stands between the families while an answer is carried: a reader tells a writer what the
upstream's model has produced, piece by piece, and the writer says it in the caller's dialect.

A whole answer goes the same way as a stream, so that both give the same.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

from merino.domain.usage import Usage
from merino.wire.errors import ErrorParts
from merino.wire.seals import Sealed

Stop = Literal["stop", "length", "filter"]
"""Why the model stopped: it was done (also to have tools called), it had no room left, or it was
stopped for what it was saying."""


class Made(NamedTuple):
    """What of a call neither its body nor its answer says: its id and the wall clock, of which
    names and times are made, and what the relay reckons with."""

    id: str
    at_s: int
    input_tokens: int = 0
    """About how many tokens the caller sent."""
    output_tokens: int = 16_384
    """How many the answer may have, if the caller did not say."""

    @property
    def seed(self) -> str:
        return self.id.removeprefix("req_")


class AnswerWriter(Protocol):
    """Writes one answer. Pieces are as in `values.py`."""

    def about(self, model: str | None, tier: str | None) -> None:
        """What the upstream says of itself; `None`: nothing new."""
        ...

    def text(self, piece: bytes, logprobs: msgspec.Raw | None = None) -> None: ...

    def cited(self, annotation: dict[str, object]) -> None:
        """A source of the text so far, as `responses` has it."""
        ...

    def thought(self, piece: bytes, *, part: int | None = None) -> None:
        """Thinking; `part` numbers the parts of a summary."""
        ...

    def sealed(self, seal: Sealed) -> None:
        """The thinking so far, as only its maker can read it."""
        ...

    def refusal(self, piece: bytes) -> None: ...

    def call(self, key: object, call_id: str, name: bytes, *, is_custom: bool = False) -> None:
        """A tool call begins; `key` is the reader's own name for it. `name` is a piece."""
        ...

    def arguments(self, key: object, piece: bytes) -> None: ...

    def stop(self, reason: Stop) -> None: ...

    def take(self) -> bytes:
        """The events since the last time."""
        ...

    def end(self, usage: Usage | None) -> bytes:
        """The last events of a stream, after all others."""
        ...

    def fail(self, error: ErrorParts, usage: Usage | None = None) -> bytes:
        """The events that say that the stream failed, and what it had used, if that is known and
        the dialect can say it."""
        ...

    def whole(self, usage: Usage | None) -> bytes:
        """The answer as one object."""
        ...


class AnswerReader(Protocol):
    """Reads one answer of the upstream and tells it to a writer. Raises nothing for odd data."""

    def plain(self, event: bytes) -> bool:
        """Read an event that is like an earlier one except for its text, as most are."""
        ...

    def event(self, event: bytes) -> None:
        """Read an event, line ends included, that is no error and not the last."""
        ...

    def answer(self, body: bytes) -> None:
        """Read a whole answer. Raises `ValueError` for what is no JSON object."""
        ...

    @property
    def is_ended(self) -> bool:
        """The model has said why it stopped."""
        ...
