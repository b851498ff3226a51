"""What can go wrong beyond the `openai` package's own errors. Each is one of those, too, so that
`except openai.APIConnectionError` and the like keep working::

    openai.OpenAIError
    ├── ReasoningBudgetExhausted    an empty answer: all tokens went into thinking
    ├── NoAnswer                    status 200, and no answer in it (`RelayClient`)
    └── openai.APIError
        ├── openai.APIConnectionError
        │   ├── CircuitOpen         every endpoint failed too often; nothing was sent
        │   └── openai.APITimeoutError
        │       └── DeadlineExceeded    the call's total time ran out
        └── openai.RateLimitError
            └── OutOfCredits        429 that waiting does not mend
"""

from __future__ import annotations

from typing import Any, cast

import openai


class CircuitOpen(openai.APIConnectionError):
    """Every endpoint is left alone for now. `retry_after_s` says until when."""

    def __init__(self, message: str, *, request: Any, retry_after_s: float) -> None:
        super().__init__(message=message, request=request)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(openai.APITimeoutError):
    """The time for the whole call, with all its waits and attempts, ran out."""

    def __init__(self, message: str, *, request: Any) -> None:
        super().__init__(request=request)
        self.message = message
        self.args = (message,)


class OutOfCredits(openai.RateLimitError):
    """Credit, quota or a spend cap is used up: trying again does not help."""


class ReasoningBudgetExhausted(openai.OpenAIError):
    """The model spent all of `max_completion_tokens` on thinking and answered nothing. `usage` says
    how many; allow more."""

    def __init__(self, message: str, usage: dict[str, Any]) -> None:
        super().__init__(message)
        self.usage = usage


class NoAnswer(openai.OpenAIError):
    """The server said 200 and sent something without choices: an error of whom it asked, a filter's
    refusal, a page. `body` is what came."""

    def __init__(self, message: str, body: object) -> None:
        super().__init__(message)
        self.body = body

    @classmethod
    def of(cls, completion: Any) -> NoAnswer:
        error: object = getattr(completion, "error", None)
        told = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else None
        why = f": {told}" if isinstance(told, str) else ""
        return cls(f"The server's answer has no choices{why}", completion)
