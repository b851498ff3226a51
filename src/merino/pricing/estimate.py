"""Before a call: how many tokens it may have, and what they may cost at worst."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from merino.pricing.cost import TOKENS_PER_RATE, account_nanos
from merino.pricing.media import (
    Measured,
    MediaLimits,
    are_functions,
    beside,
    json_bytes,
    measured,
)
from merino.pricing.price import PPM, Price

MESSAGE_TOKENS = 8
"""Overhead of one message: OpenAI's chat format adds three or four, tool definitions some more."""

REQUEST_TOKENS = 16
"""Overhead of a call: the priming of the answer and hidden instructions."""

OUTPUT_TOKENS_UNBOUNDED = 2**31 - 1
"""What is affordable when output is free."""

TOOL_CALLS_ASSUMED = 10
"""Calls of a vendor's own tool that are held for if the caller sets no `max_tool_calls`."""
PICTURE_TOKENS_ASSUMED = 6_500
"""What a picture that is made may have: a large one of high quality has 6,240."""
_TOOL_MARKS = {
    "code_interpreter": (b'"code_interpreter"', 1),
    "file_search": (b'"file_search"', 1),
    "image": (b'"image_generation"', 1),
    "image_gen_output": (b'"image_generation"', PICTURE_TOKENS_ASSUMED),
    "web_search": (b'"web_search', 1),
}
"""By unit: what a call that may use it has among its tools, and how many pieces a use has."""

_COSTLESS_FIELDS = frozenset(
    (
        "audio", "background", "background_options", "best_of", "cache_control", "container",
        "context_management", "diagnostics", "dimensions", "encoding_format", "frequency_penalty",
        "include", "inference_geo", "logit_bias", "logprobs", "max_completion_tokens",
        "max_output_tokens", "max_tokens", "max_tool_calls", "metadata", "min_p", "modalities",
        "model", "moderation", "n", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "reasoning", "reasoning_effort",
        "safety_identifier", "seed", "service_tier", "speed", "store", "stream", "stream_options",
        "temperature", "thinking", "tool_choice", "top_k", "top_logprobs", "top_p", "truncation",
        "user", "verbosity",
    )
)  # fmt: skip
"""What steers a model, and is nothing that it reads. Every other field counts, also those of which
only one vendor knows."""

_TEXT_FIELDS = frozenset(
    (
        "functions", "instructions", "output_config", "prediction", "response_format", "stop",
        "stop_sequences", "system", "text",
    )
)  # fmt: skip


_LIVES = {"cache_write_1h": b'"1h"', "cache_write_12h": b'"12h"'}
"""What a request must say for something to be kept so long in a cache."""
_CACHED_FIELDS = frozenset(
    (
        "cache_control", "input", "messages", "prompt_cache_options", "system", "tools",
    )
)  # fmt: skip
_USES = re.compile(rb'"max_uses": ?([0-9]{1,8})\b')


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A part of a message that is text and nothing else."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str | None = None
    refusal: str | None = None
    cache_control: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that is text and nothing else: nearly every one."""

    role: str | None = None
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    cache_control: msgspec.Raw = msgspec.Raw()


class _LargePart(_Part):
    text: msgspec.Raw = msgspec.Raw()  # pyright: ignore[reportIncompatibleVariableOverride] - unread


class _LargeMessage(_Message):
    content: msgspec.Raw = msgspec.Raw()  # pyright: ignore[reportIncompatibleVariableOverride]


LARGE_BYTES = 512 * 1024
"""From here on texts are only measured: to make them takes many times as long."""

_decode_texts = msgspec.json.Decoder(list[_Message]).decode
_decode_large = msgspec.json.Decoder(list[_LargeMessage]).decode
_decode_large_parts = msgspec.json.Decoder(list[_LargePart]).decode
_TEXT_OR_NULL = (b"", b'"', b"n")


def _count_texts(messages: bytes | msgspec.Raw) -> int:
    """How many messages there are, all of text and nothing else. Raises `DecodeError` if there is
    anything else."""
    if len(messages) < LARGE_BYTES:
        return len(_decode_texts(messages))
    found = _decode_large(messages)
    for each in found:
        texts = [each.content]
        if _first_byte(each.content) == b"[":
            texts = [part.text for part in _decode_large_parts(each.content)]
        if not all(_first_byte(text) in _TEXT_OR_NULL for text in texts):
            raise msgspec.ValidationError("that is no text")
    return len(found)


def _first_byte(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


class PricedRequest(Protocol):
    """What an estimate reads of a request; `merino.wire.request.ModelRequest` is one."""

    @property
    def fields(self) -> Mapping[str, msgspec.Raw]: ...
    @property
    def n(self) -> int: ...


class TokenCounter(Protocol):
    """Counts the LLM tokens of text that went by, given its size in UTF-8 bytes."""

    def __call__(self, text_bytes: int, /) -> int: ...


def count_text_tokens(text_bytes: int) -> int:
    """Four bytes a token, rounded up: OpenAI's own rule of thumb for English text.

    Used for output whose usage never came; languages with longer UTF-8 come out dearer, as they are
    in tokens.
    """
    return (text_bytes + 3) // 4


class InputEstimate(msgspec.Struct, frozen=True, gc=False):
    """`tokens` are held. `asked_tokens` are at least to be expected: what is here as text. `media`:
    whether there is more than text."""

    tokens: int
    asked_tokens: int
    media: bool


_NO_LIMITS = MediaLimits()


def input_tokens_estimate(request: PricedRequest, limits: MediaLimits = _NO_LIMITS) -> int:
    """Tokens of the input, rather too many than too few."""
    return estimated(request, limits).tokens


def estimated(
    request: PricedRequest, limits: MediaLimits = _NO_LIMITS, prior_tokens: int | None = None
) -> InputEstimate:
    """Tokens of the input, rather too many than too few: its bytes as JSON / 3 + 10 %, and at most
    what `limits` say of all that is no text.

    `prior_tokens`, if known, are those of the answer that the call goes on from, and of all before.
    What is not text never makes it more than the context, which nothing can exceed.
    """
    text_bytes = more = 0
    tokens = REQUEST_TOKENS
    fields = request.fields
    if prior_tokens is not None:
        tokens += prior_tokens
    for name in fields.keys() - _COSTLESS_FIELDS:
        raw = fields[name]
        if prior_tokens is not None and name == "previous_response_id":
            continue
        if name == "messages":
            text = bytes(raw)
            try:
                tokens += _count_texts(text) * MESSAGE_TOKENS
            except (msgspec.DecodeError, RecursionError):
                found = measured(raw, limits, as_parts=True)
                tokens += found.items * MESSAGE_TOKENS
            else:
                # One byte is looked for in no time. What escapes stand for is of another size.
                is_escaped = b"\\" in text and b"\\u" in text
                text_bytes += json_bytes(text) if is_escaped else len(text)
                continue
        else:
            found = _beside_messages(name, raw, limits)
        text_bytes += found.text_bytes
        more += found.tokens_max
    tokens -= -text_bytes * 11 // 30
    asked = count_text_tokens(text_bytes)
    context = limits.context_tokens_max
    if limits.is_context_known and tokens > context:
        tokens = context
    if more:
        return InputEstimate(max(tokens, min(tokens + more, context)), asked, True)
    return InputEstimate(tokens, asked, False)


def input_tokens_counted(
    request: PricedRequest, limits: MediaLimits = _NO_LIMITS, prior_tokens: int | None = None
) -> int:
    """Tokens of an input whose usage never came, by the rule of `count_text_tokens`: what is billed
    is neither rounded up nor padded as what is held, and does not depend on how the caller writes
    JSON."""
    text_bytes = 0
    tokens = prior_tokens or 0
    for name in request.fields.keys() - _COSTLESS_FIELDS:
        raw = request.fields[name]
        if prior_tokens and name == "previous_response_id":
            continue
        if name == "messages":
            found = measured(raw, limits, as_parts=True)
        else:
            found = _beside_messages(name, raw, limits)
        text_bytes += found.text_bytes
        tokens += found.tokens_usual
    return count_text_tokens(text_bytes) + tokens


def _beside_messages(name: str, raw: msgspec.Raw, limits: MediaLimits) -> Measured:
    """What a field beside the messages has the model read."""
    if name in _TEXT_FIELDS:
        return Measured(json_bytes(raw))
    if name == "tools":
        return Measured(json_bytes(raw), 0 if are_functions(raw) else limits.of_file)
    if name == "input":
        text = bytes(raw)
        if text[:1] == b"[" and b'"' not in text:
            # Already tokens: one number each.
            count = text.count(b",") + 1
            return Measured(0, count, count)
        if b"{" not in text:
            return Measured(json_bytes(raw))
        return measured(raw, limits, as_parts=True)
    return beside(name, raw, limits)


def worst_case(
    request: PricedRequest, price: Price, input_tokens: int, output_tokens_max: int
) -> int:
    """Nano-dollars the account pays at most if the input has `input_tokens` and each of the
    request's `n` choices has `output_tokens_max`, all of the dearest kind the request allows."""
    input_rate, output_rate = _dearest(request, price, input_tokens)
    products = input_tokens * input_rate + request.n * output_tokens_max * output_rate
    if "prediction" in request.fields:
        products += _predicted_tokens(request) * output_rate
    if price.account.units:
        products += _tool_products(request, price)
    nanos = account_nanos(products, price.account.per_call_nanos, price.account_ppm)
    return max(nanos + price.fixed_nanos, price.minimum_nanos)


def output_tokens_affordable(
    nanos: int,
    price: Price,
    input_tokens: int,
    n: int = 1,
    *,
    request: PricedRequest | None = None,
) -> int:
    """Most output tokens for each of `n` choices so that `worst_case` is at most `nanos`.

    -1 if not even the input is affordable, `OUTPUT_TOKENS_UNBOUNDED` if output is free. Give the
    `request` where it may bring audio or images, which may be dearer than text.
    """
    input_rate, output_rate = _dearest(request, price, input_tokens)
    ppm = price.account_ppm
    if nanos < price.minimum_nanos:
        return -1
    nanos -= price.fixed_nanos
    if nanos < 0:
        return -1
    if ppm == 0:
        return OUTPUT_TOKENS_UNBOUNDED
    # The largest sum of products that still rounds to `nanos`.
    whole = TOKENS_PER_RATE * PPM
    products = ((nanos + 1) * whole - whole // 2 - 1) // ppm
    left = products - price.account.per_call_nanos * TOKENS_PER_RATE - input_tokens * input_rate
    if request is not None and "prediction" in request.fields:
        left -= _predicted_tokens(request) * output_rate
    if request is not None and price.account.units:
        left -= _tool_products(request, price)
    if left < 0:
        return -1
    if output_rate == 0:
        return OUTPUT_TOKENS_UNBOUNDED
    return left // (n * output_rate)


def _dearest(request: PricedRequest | None, price: Price, input_tokens: int) -> tuple[int, int]:
    """The dearest rates of input and output that the request can come to."""
    rates = price.account
    if rates.steps:
        rates = rates.at(input_tokens)
    input_rate = rates.dearest_input
    output_rate = rates.output
    if request is not None and rates.units:
        for unit, rate in rates.units:
            if rate > input_rate and unit in _LIVES and _says(request, _LIVES[unit]):
                input_rate = rate
    if request is not None and rates.has_media:
        fields = request.fields
        if rates.audio_output > output_rate and "audio" in fields:
            output_rate = rates.audio_output
        media_rate = max(rates.audio_input, rates.image_input)
        if media_rate > input_rate and _may_have_media(request):
            input_rate = media_rate
    return input_rate, output_rate


def _says(request: PricedRequest, words: bytes) -> bool:
    """Whether a request has these words in what may be kept in a cache, or beside it."""
    return any(
        words in bytes(raw) for name, raw in request.fields.items() if name in _CACHED_FIELDS
    )


def _predicted_tokens(request: PricedRequest) -> int:
    """What an answer may be billed for beside its text: predicted text that it does not take over
    is output too."""
    return -(-json_bytes(request.fields["prediction"]) * 11 // 30)


def _tool_products(request: PricedRequest, price: Price) -> int:
    """What the vendor's own tools may cost at most, as far as the call bounds them."""
    tools = bytes(request.fields.get("tools", b""))
    products = 0
    for unit, rate in price.account.units:
        mark, pieces = _TOOL_MARKS.get(unit, (b"", 0))
        if pieces and mark in tools:
            said = bytes(request.fields.get("max_tool_calls", b""))
            calls = int(said) if said.isdigit() and len(said) < 9 else TOOL_CALLS_ASSUMED
            if uses := _USES.findall(tools):
                calls = sum(map(int, uses))
            if unit == "code_interpreter":
                calls = 1  # all of them in one container
            products += calls * pieces * rate
    return products


def _may_have_media(request: PricedRequest) -> bool:
    """Whether there is anything but text, or anything that nobody knows."""
    fields = request.fields
    if not fields.keys() <= _COSTLESS_FIELDS | _TEXT_FIELDS | {"messages", "tools"}:
        return True
    try:
        _count_texts(fields.get("messages", b"[]"))
    except (msgspec.DecodeError, RecursionError):
        return True
    return False
