"""`RelayClient`: one call in, one dictionary out, for code that wants no more than that."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# The types of streams differ between versions of the openai package.

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Literal, Self

from merino.client.calls import WAITED_S
from merino.client.clients import AsyncOpenAI, OpenAI
from merino.client.errors import NoAnswer, ReasoningBudgetExhausted
from merino.client.metrics import ClientMetrics
from merino.client.policy import ClientPolicy, HedgePolicy

OnEmpty = Literal["return", "raise", "escalate"]
"""What to do with an empty answer whose tokens all went into thinking: return it, raise
`ReasoningBudgetExhausted`, or ask once more with twice the tokens."""

DEFAULT_BASE_URL = "http://127.0.0.1:8080/v1"


class RelayClient:
    """A client with its own limits, retries and breaker.

    Args:
        api_key: The relay's key; else `MERINO_API_KEY`, else `OPENAI_API_KEY`.
        base_url: With the version: ``http://127.0.0.1:8080/v1``; else `MERINO_BASE_URL`, else
            `OPENAI_BASE_URL`, else the relay of this machine.
        max_retries: Attempts beyond the first.
        requests_per_minute, requests_per_second: Token buckets; calls wait for their turn in order.
        circuit_breaker_threshold: Failures in a row after which nothing is sent for a while.
        circuit_breaker_timeout: That while, in seconds.
        on_empty: What to do when a model spends all tokens on thinking.
        hedge: Send slow calls a second time; off unless given.
    """

    def __init__(
        self,
        api_key: str | None = None,
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
        for name in ("MERINO_BASE_URL", "OPENAI_BASE_URL"):
            base_url = base_url or os.environ.get(name)
        base_url = base_url or DEFAULT_BASE_URL
        options: dict[str, Any] = {
            "api_key": api_key,
            "base_url": base_url,
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
        callback: Callable[[str], object] | Callable[[str], Awaitable[object]] | None = None,
    ) -> dict[str, Any]:
        """Ask, and return ``{"content", "usage", "latency_ms", "model"}``.

        With `callback` the answer is streamed: it is called with every piece of text, and awaited
        if it is an async function. `latency_ms` is the time with the relay, without the waits for
        this client's own limits. Raises the `openai` package's errors and those of
        `merino.client.errors`.
        """
        fields = _fields(model, messages, max_completion_tokens, temperature)
        asked = _Asked(self._async.metrics)
        while True:
            with asked.once() as answer:
                if callback is None:
                    answer.take_whole(await self._async.chat.completions.create(**fields))
                else:
                    stream = await self._async.chat.completions.create(**fields, **_STREAMED)
                    async for chunk in stream:
                        if text := asked.text_of(chunk):
                            told = callback(text)
                            if inspect.isawaitable(told):
                                await told
            if not self._asks_again(asked, fields):
                return asked.result(model)

    def chat_completion(
        self,
        model: str,
        messages: list[Any],
        max_completion_tokens: int | None = None,
        temperature: float | None = None,
        callback: Callable[[str], object] | None = None,
    ) -> dict[str, Any]:
        """The same, waiting in the calling thread. `callback` is a plain function."""
        if inspect.iscoroutinefunction(callback):
            raise TypeError("callback is an async function: use chat_completion_async with it")
        fields = _fields(model, messages, max_completion_tokens, temperature)
        asked = _Asked(self._sync.metrics)
        while True:
            with asked.once() as answer:
                if callback is None:
                    answer.take_whole(self._sync.chat.completions.create(**fields))
                else:
                    for chunk in self._sync.chat.completions.create(**fields, **_STREAMED):
                        if text := asked.text_of(chunk):
                            callback(text)
            if not self._asks_again(asked, fields):
                return asked.result(model)

    async def response_async(
        self,
        model: str,
        input: str | list[Any],  # noqa: A002 - the API's own name
        max_output_tokens: int | None = None,
        callback: Callable[[str], object] | Callable[[str], Awaitable[object]] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Ask over the Responses API, and return ``{"content", "usage", "latency_ms", "model",
        "id"}``; `fields` are further fields of the call, such as `previous_response_id`.

        `callback` and errors as with `chat_completion_async`. `usage` has that API's names.
        """
        asked = _Asked(self._async.metrics, _Response)
        fields |= _response_fields(model, input, max_output_tokens)
        while True:
            with asked.once() as answer:
                if callback is None:
                    answer.take_whole(await self._async.responses.create(**fields))
                else:
                    async for event in await self._async.responses.create(**fields, stream=True):
                        if text := asked.text_of(event):
                            told = callback(text)
                            if inspect.isawaitable(told):
                                await told
            if not self._asks_again(asked, fields):
                return asked.result(model)

    def response(
        self,
        model: str,
        input: str | list[Any],  # noqa: A002 - the API's own name
        max_output_tokens: int | None = None,
        callback: Callable[[str], object] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """The same, waiting in the calling thread. `callback` is a plain function."""
        if inspect.iscoroutinefunction(callback):
            raise TypeError("callback is an async function: use response_async with it")
        asked = _Asked(self._sync.metrics, _Response)
        fields |= _response_fields(model, input, max_output_tokens)
        while True:
            with asked.once() as answer:
                if callback is None:
                    answer.take_whole(self._sync.responses.create(**fields))
                else:
                    for event in self._sync.responses.create(**fields, stream=True):
                        if text := asked.text_of(event):
                            callback(text)
            if not self._asks_again(asked, fields):
                return asked.result(model)

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

    def _asks_again(self, asked: _Asked, fields: dict[str, Any]) -> bool:
        """Whether an empty answer is worth another attempt, with more tokens. Raises
        `ReasoningBudgetExhausted` if that is what `on_empty` wants."""
        answer = asked.answer
        if answer.content or answer.finish_reason != "length" or self.on_empty == "return":
            return False
        if asked.times > 1:
            return False
        tokens = fields.get(answer.limit_name)
        if self.on_empty == "raise" or tokens is None:
            raise ReasoningBudgetExhausted(
                f"The model spent all {answer.usage[answer.names[1]]} tokens on thinking and "
                f"answered nothing. Allow more {answer.limit_name}.",
                answer.usage,
            )
        fields[answer.limit_name] = tokens * 2
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


def _response_fields(model: str, given: str | list[Any], limit: int | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": model, "input": given}
    if limit is not None:
        fields["max_output_tokens"] = limit
    return fields


class _Asked:
    """What one question came to: once, or twice if the first answer was empty."""

    def __init__(self, metrics: ClientMetrics, kind: type[_Answer] | None = None) -> None:
        self._metrics = metrics
        self._kind = kind or _Answer
        self._usage: dict[str, int] = {}
        self._seconds = 0.0
        self._began = 0.0
        self._is_first = True
        self.times = 0
        self.answer = self._kind()

    @contextmanager
    def once(self) -> Generator[_Answer]:
        """One answer: its time, without what was waited for, and its usage are added up."""
        self.times += 1
        self.answer = answer = self._kind()
        self._is_first = True
        self._began = perf_counter()
        try:
            yield answer
        except NoAnswer:
            self._metrics.observe_no_answer()
            raise
        self._seconds += perf_counter() - self._began - WAITED_S.get()
        if answer.is_streamed and answer.is_usage_told:
            self._metrics.observe_tokens(answer.usage["total_tokens"])
        for name, tokens in answer.usage.items():
            self._usage[name] = self._usage.get(name, 0) + tokens

    def text_of(self, chunk: Any) -> str:
        """The text of a chunk; of the first text, the time is told."""
        text = self.answer.take_chunk(chunk)
        if text and self._is_first:
            self._is_first = False
            self._metrics.observe_first_token(perf_counter() - self._began - WAITED_S.get())
        return text

    def result(self, model: str) -> dict[str, Any]:
        return {
            "content": self.answer.content,
            "usage": self._usage,
            "latency_ms": self._seconds * 1000,
            "model": model,
            **self.answer.more,
        }


class _Answer:
    """Of a chat. `names` are those of the counts of input, output and both."""

    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    limit_name = "max_completion_tokens"
    details_name = "completion_tokens_details"

    def __init__(self) -> None:
        self.content = ""
        self.finish_reason: str | None = None
        self.is_streamed = False
        self.is_usage_told = False
        self.usage: dict[str, int] = dict.fromkeys(self.names, 0)
        self.more: dict[str, Any] = {}

    def take_whole(self, completion: Any) -> None:
        choices = getattr(completion, "choices", None)
        if not choices:
            raise NoAnswer.of(completion)
        choice = choices[0]
        self.content = getattr(choice.message, "content", None) or ""
        self.finish_reason = choice.finish_reason
        self._take_usage(getattr(completion, "usage", None))

    def take_chunk(self, chunk: Any) -> str:
        self.is_streamed = True
        self._take_usage(getattr(chunk, "usage", None))
        if not getattr(chunk, "choices", None):
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        text = (choice.delta.content if choice.delta else None) or ""
        self.content += text
        return text

    def _take_usage(self, usage: Any) -> None:
        if usage is None:
            return
        self.is_usage_told = True
        self.usage = {name: getattr(usage, name, None) or 0 for name in self.names}
        details = getattr(usage, self.details_name, None)
        reasoning = getattr(details, "reasoning_tokens", None)
        if reasoning is not None:
            self.usage["reasoning_tokens"] = reasoning


class _Response(_Answer):
    """Of the Responses API."""

    names = ("input_tokens", "output_tokens", "total_tokens")
    limit_name = "max_output_tokens"
    details_name = "output_tokens_details"

    def take_whole(self, completion: Any) -> None:
        if getattr(completion, "output", None) is None or completion.status == "failed":
            raise NoAnswer.of(completion)
        self.content = completion.output_text
        self._take_end(completion)

    def take_chunk(self, chunk: Any) -> str:
        self.is_streamed = True
        kind = getattr(chunk, "type", "")
        if kind == "response.output_text.delta":
            self.content += chunk.delta
            return chunk.delta
        if kind in ("response.completed", "response.incomplete"):
            self._take_end(chunk.response)
        elif kind == "response.failed":
            raise NoAnswer.of(chunk.response)
        return ""

    def _take_end(self, response: Any) -> None:
        reason = getattr(response.incomplete_details, "reason", None)
        self.finish_reason = "length" if reason == "max_output_tokens" else response.status
        self.more = {"id": response.id}
        self._take_usage(response.usage)
