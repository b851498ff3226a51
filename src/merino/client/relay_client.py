"""`RelayClient`: one call in, one dictionary out, for code that wants no more than that."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# The types of streams differ between versions of the openai package.

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal, Self

from merino.client.clients import AsyncOpenAI, OpenAI
from merino.client.engine import ClientPolicy, HedgePolicy
from merino.client.errors import ReasoningBudgetExhausted

OnEmpty = Literal["return", "raise", "escalate"]
"""What to do with an empty answer whose tokens all went into thinking: return it, raise
`ReasoningBudgetExhausted`, or ask once more with twice the tokens."""

DEFAULT_BASE_URL = "http://127.0.0.1:8080/v1"


class RelayClient:
    """A client with its own limits, retries and breaker.

    Args:
        api_key: The relay's key.
        base_url: With the version: ``http://127.0.0.1:8080/v1``. Left out: `MERINO_BASE_URL`, else
            a relay on this machine.
        max_retries: Attempts beyond the first.
        requests_per_minute, requests_per_second: Token buckets; calls wait for their turn in order.
        circuit_breaker_threshold: Failures in a row after which nothing is sent for a while.
        circuit_breaker_timeout: That while, in seconds.
        on_empty: What to do when a model spends all tokens on thinking.
        hedge: Send slow calls a second time; off unless given.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str | None = None,
        max_retries: int = 3,
        requests_per_minute: int = 60,
        requests_per_second: int = 10,
        circuit_breaker_threshold: int = 10,
        circuit_breaker_timeout: float = 60,
        *,
        on_empty: OnEmpty = "return",
        timeout_s: float = 120.0,
        hedge: HedgePolicy | None = None,
    ) -> None:
        self.policy = ClientPolicy(
            max_retries=max_retries,
            requests_per_minute=requests_per_minute,
            requests_per_second=requests_per_second,
            breaker_threshold=circuit_breaker_threshold,
            breaker_open_s=circuit_breaker_timeout,
            hedge=hedge,
        )
        self.on_empty: OnEmpty = on_empty
        options: dict[str, Any] = {
            "api_key": api_key,
            "base_url": base_url or os.environ.get("MERINO_BASE_URL") or DEFAULT_BASE_URL,
            "policy": self.policy,
            "timeout": timeout_s,
        }
        self._async = AsyncOpenAI(**options)
        self._sync = OpenAI(**options)
        # One client to its user: the same limits, breaker and counts for both.
        self._sync.share(self._async)

    async def chat_completion_async(
        self,
        model: str,
        messages: list[Any],
        max_completion_tokens: int | None = None,
        temperature: float | None = None,
        callback: Callable[[str], object] | None = None,
    ) -> dict[str, Any]:
        """Ask, and return ``{"content", "usage", "latency_ms", "model"}``.

        With `callback` the answer is streamed: it is called with every piece of text. Raises the
        `openai` package's errors and those of `merino.client.errors`.
        """
        fields = _fields(model, messages, max_completion_tokens, temperature)
        for is_second in (False, True):
            began = perf_counter()
            if callback is None:
                answer = _Answer()
                answer.take_whole(await self._async.chat.completions.create(**fields))
            else:
                answer = _Answer()
                stream = await self._async.chat.completions.create(**fields, **_STREAMED)
                async for chunk in stream:
                    self._take(answer, chunk, callback, began)
            result = answer.result(model, began)
            self._async.metrics.observe_tokens(answer.usage["total_tokens"])
            if is_second or not self._asks_again(answer, fields):
                return result
        raise AssertionError("unreachable")

    def chat_completion(
        self,
        model: str,
        messages: list[Any],
        max_completion_tokens: int | None = None,
        temperature: float | None = None,
        callback: Callable[[str], object] | None = None,
    ) -> dict[str, Any]:
        """The same, waiting in the calling thread."""
        fields = _fields(model, messages, max_completion_tokens, temperature)
        for is_second in (False, True):
            began = perf_counter()
            answer = _Answer()
            if callback is None:
                answer.take_whole(self._sync.chat.completions.create(**fields))
            else:
                for chunk in self._sync.chat.completions.create(**fields, **_STREAMED):
                    self._take(answer, chunk, callback, began)
            result = answer.result(model, began)
            self._sync.metrics.observe_tokens(answer.usage["total_tokens"])
            if is_second or not self._asks_again(answer, fields):
                return result
        raise AssertionError("unreachable")

    def get_metrics_summary(self) -> dict[str, Any]:
        """Counts and latencies in milliseconds: ``total_requests``, ``success_rate`` (percent),
        ``avg_latency_ms``, ``p50_latency_ms``, ``p90_latency_ms``, ``p99_latency_ms``,
        ``p50_ttft_ms``, ``p99_ttft_ms``, ``total_tokens``, ``retries``, ``hedges``,
        ``hedges_won``, ``error_breakdown``, ``circuit_breaker``."""
        summary = self._async.metrics.summary()
        (summary["circuit_breaker"],) = self._async.breakers.values()
        return summary

    @property
    def metrics(self) -> Any:
        """Printing it shows a table."""
        return self._async.metrics

    async def aclose(self) -> None:
        """Close every connection."""
        await self._async.close()
        self._sync.close()

    def close(self) -> None:
        """Close the connections of the synchronous calls."""
        self._sync.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _take(
        self, answer: _Answer, chunk: Any, callback: Callable[[str], object], began: float
    ) -> None:
        text = answer.take_chunk(chunk)
        if text:
            if answer.is_first:
                answer.is_first = False
                self._async.metrics.observe_first_token(perf_counter() - began)
            callback(text)

    def _asks_again(self, answer: _Answer, fields: dict[str, Any]) -> bool:
        """Whether an empty answer is worth another attempt, with more tokens. Raises
        `ReasoningBudgetExhausted` if that is what `on_empty` wants."""
        if answer.content or answer.finish_reason != "length" or self.on_empty == "return":
            return False
        tokens = fields.get("max_completion_tokens")
        if self.on_empty == "raise" or tokens is None:
            raise ReasoningBudgetExhausted(
                f"The model spent all {answer.usage['completion_tokens']} tokens on thinking and "
                "answered nothing. Allow more max_completion_tokens.",
                answer.usage,
            )
        fields["max_completion_tokens"] = tokens * 2
        return True


_STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def _fields(
    model: str,
    messages: list[Any],
    max_completion_tokens: int | None,
    temperature: float | None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": model, "messages": messages}
    if max_completion_tokens is not None:
        fields["max_completion_tokens"] = max_completion_tokens
    if temperature is not None:
        fields["temperature"] = temperature
    return fields


class _Answer:
    def __init__(self) -> None:
        self.content = ""
        self.finish_reason: str | None = None
        self.is_first = True
        self.usage: dict[str, Any] = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
        }

    def take_whole(self, completion: Any) -> None:
        choice = completion.choices[0]
        self.content = choice.message.content or ""
        self.finish_reason = choice.finish_reason
        self._take_usage(completion.usage)

    def take_chunk(self, chunk: Any) -> str:
        self._take_usage(chunk.usage)
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        text = (choice.delta.content if choice.delta else None) or ""
        self.content += text
        return text

    def _take_usage(self, usage: Any) -> None:
        if usage is None:
            return
        self.usage = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        }
        details = getattr(usage, "completion_tokens_details", None)
        reasoning = getattr(details, "reasoning_tokens", None)
        if reasoning is not None:
            self.usage["reasoning_tokens"] = reasoning

    def result(self, model: str, began: float) -> dict[str, Any]:
        return {
            "content": self.content,
            "usage": self.usage,
            "latency_ms": (perf_counter() - began) * 1000,
            "model": model,
        }
