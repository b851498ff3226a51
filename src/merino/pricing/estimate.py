"""Before a call: how many tokens it may have, and what they may cost at worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from merino.pricing.book import PPM, Price
from merino.pricing.cost import TOKENS_PER_RATE, account_nanos

IMAGE_TOKENS_MAX = 1600
"""What one image is taken for. OpenAI's high detail is 765 tokens for 1024 x 1024 and 1,445 for its
largest image with gpt-4o (85 + 8 tiles x 170), at most 1,536 patches with gpt-4.1-mini and later;
Anthropic caps at about 1,600."""

AUDIO_BYTES_PER_TOKEN = 200
"""OpenAI counts ten tokens a second of input audio. An mp3 at 32 kbit/s, the leanest in common use,
has 4,000 bytes a second, which is 400 a token; half of that leaves room."""

FILE_BYTES_PER_TOKEN = 3
"""A file is taken for text, as the least that can be known of it."""

MESSAGE_TOKENS = 8
"""Overhead of one message: OpenAI's chat format adds three or four, tool definitions some more."""

REQUEST_TOKENS = 16
"""Overhead of a call: the priming of the answer and hidden instructions."""

OUTPUT_TOKENS_UNBOUNDED = 2**31 - 1
"""What is affordable when output is free."""

_COUNTED_FIELDS = frozenset(
    ("messages", "tools", "functions", "response_format", "prediction", "input")
)


_ROLE, _TYPE = b'"role"', b'"type"'
_IMAGE, _AUDIO, _FILE = b'"image_url"', b'"input_audio"', b'"file"'


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


def input_tokens_estimate(
    request: PricedRequest, *, image_tokens_max: int = IMAGE_TOKENS_MAX
) -> int:
    """Tokens of the input, rather too many than too few: its bytes as JSON / 3 + 10 %.

    Pictures, audio and files are not counted by the bytes of their base64.
    """
    text_bytes, tokens = _sizes(request, image_tokens_max)
    messages = request.fields.get("messages")
    if messages is not None:
        tokens += bytes(messages).count(_ROLE) * MESSAGE_TOKENS
    return tokens + REQUEST_TOKENS - (-text_bytes * 11 // 30)


def input_tokens_counted(request: PricedRequest) -> int:
    """Tokens of an input whose usage never came, by the rule of `count_text_tokens`: what is billed
    is neither rounded up nor padded as what is held."""
    text_bytes, tokens = _sizes(request, IMAGE_TOKENS_MAX)
    return count_text_tokens(text_bytes) + tokens


def _sizes(request: PricedRequest, image_tokens_max: int) -> tuple[int, int]:
    """Bytes of text, and the tokens of everything that is no text."""
    fields = request.fields
    text_bytes = tokens = 0
    for name in _COUNTED_FIELDS & fields.keys():
        raw = fields[name]
        text_bytes += len(raw)
        if name == "messages":
            text = bytes(raw)
            # A part that is no text has a type; one search instead of three for most calls.
            if _TYPE in text and (_IMAGE in text or _AUDIO in text or _FILE in text):
                media_bytes, media_tokens = _media(raw, image_tokens_max)
                text_bytes -= media_bytes
                tokens += media_tokens
        elif name == "input":
            text = bytes(raw)
            if text[:1] == b"[" and b'"' not in text:
                # Already tokens: one number each.
                text_bytes -= len(raw)
                tokens += text.count(b",") + 1
    return text_bytes, tokens


_Members = dict[str, msgspec.Raw]
_decode_messages = msgspec.json.Decoder(list[_Members]).decode


def _media(messages: msgspec.Raw, image_tokens_max: int) -> tuple[int, int]:
    """Bytes that are no text, and the tokens they are taken for."""
    media_bytes = tokens = 0
    try:
        for message in _decode_messages(messages):
            content = message.get("content")
            if content is None or memoryview(content)[0] != 0x5B:
                continue
            for part in _decode_messages(content):
                for name, raw in part.items():
                    if name == "image_url":
                        tokens += image_tokens_max
                    elif name == "input_audio":
                        tokens += len(raw) * 3 // 4 // AUDIO_BYTES_PER_TOKEN + 1
                    elif name == "file":
                        tokens += len(raw) * 3 // 4 // FILE_BYTES_PER_TOKEN + 1
                    else:
                        continue
                    media_bytes += len(raw)
    except msgspec.DecodeError:
        # Not a shape we know: what was not recognised counts as text.
        pass
    return media_bytes, tokens


def worst_case(
    request: PricedRequest, price: Price, input_tokens: int, output_tokens_max: int
) -> int:
    """Nano-dollars the account pays at most if the input has `input_tokens` and each of the
    request's `n` choices has `output_tokens_max`, all of the dearest kind the request allows."""
    input_rate, output_rate = _dearest(request, price, input_tokens)
    products = input_tokens * input_rate + request.n * output_tokens_max * output_rate
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
    if request is not None and rates.has_media:
        fields = request.fields
        if rates.audio_output > output_rate and "audio" in fields:
            output_rate = rates.audio_output
        if rates.audio_input > input_rate or rates.image_input > input_rate:
            messages = bytes(fields.get("messages", b""))
            if b'"input_audio"' in messages or b'"audio"' in messages:
                input_rate = max(input_rate, rates.audio_input)
            if b'"image_url"' in messages:
                input_rate = max(input_rate, rates.image_input)
    return input_rate, output_rate
