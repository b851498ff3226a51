"""What a simulated embedding model answers."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Iterator
from itertools import chain
from typing import Any
from zlib import crc32

import msgspec

from merino.domain.chance import chance_of
from merino.simulator.schema import as_list
from merino.simulator.steps import (
    Asked,
    Refused,
    Step,
    Wait,
    deliver,
    is_number,
    whole_number,
)

_EMBEDDING_INPUTS_MAX = 2048
_DIMENSIONS_MAX = 8192
_encode = msgspec.json.encode


def embeddings(asked: Asked) -> Iterator[Step]:
    body, options = asked.body, asked.options
    inputs = _embedding_inputs(body.get("input"))
    default = 3072 if asked.model.endswith("-large") else 1536
    dimensions = whole_number(body, "dimensions", 1, _DIMENSIONS_MAX) or default
    encoding: object = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise Refused(
            "Invalid value for 'encoding_format'. Supported values are: 'float' and 'base64'.",
            "encoding_format",
            "invalid_value",
        )
    tokens = sum(count for count, _ in inputs) if options.input is None else options.input
    data: list[dict[str, Any]] = []
    for index, (_, text) in enumerate(inputs):
        vector = _vector(text, dimensions)
        value = (
            vector.tolist() if encoding == "float" else base64.b64encode(vector.tobytes()).decode()
        )
        data.append({"object": "embedding", "index": index, "embedding": value})
    answer: dict[str, Any] = {
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    if options.no_usage:
        del answer["usage"]
    wait = Wait(asked.ttft_s(), tokens)
    return chain((wait,), deliver(_encode(answer), asked))


def _embedding_inputs(value: object) -> list[tuple[int, bytes]]:
    """Each input's tokens and bytes: a text, texts, token numbers, or lists of token numbers."""
    items = as_list(value) or [value]
    if items and all(is_number(item) for item in items):
        items = [items]
    if not items or len(items) > _EMBEDDING_INPUTS_MAX:
        raise Refused(
            f"Invalid 'input': expected from 1 to {_EMBEDDING_INPUTS_MAX} inputs.", "input", None
        )
    inputs: list[tuple[int, bytes]] = []
    for item in items:
        if isinstance(item, str) and item:
            data = item.encode("utf-8", "replace")
            inputs.append(((len(data) + 3) // 4, data))
        elif (numbers := as_list(item)) and all(is_number(number) for number in numbers):
            inputs.append((len(numbers), _encode(numbers)))
        else:
            raise Refused(
                "Invalid 'input': expected a non-empty text, texts, or token numbers.",
                "input",
                "invalid_type" if value is not None else "missing_required_parameter",
            )
    return inputs


def _vector(text: bytes, dimensions: int) -> array[float]:
    """Unit length, the same for the same text, unrelated for others."""
    # Not for secrets: the same text must give the same numbers on every machine.
    noise = chance_of(crc32(text)).randbytes(dimensions)
    numbers = [byte - 127.5 for byte in noise]
    length = math.sqrt(sum(number * number for number in numbers))
    return array("f", [number / length for number in numbers])
