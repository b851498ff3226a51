"""What clients of Anthropic's API ask for beside messages: whether somebody is there, which models
there are, and how many tokens a message has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from merino.domain.errors import InvalidCall
from merino.gateway.call import Call
from merino.gateway.kept import Counting
from merino.pricing.estimate import input_tokens_counted
from merino.wire.exchange import Exchange, Headers, render_headers

HELLO_PATH = b"/api/hello"
COUNT_PATH = b"/v1/messages/count_tokens"
_MESSAGES = b"/v1/messages"
_PAGE_MAX = 1000
_PAGE = 20
_ADJUSTED = b"input_tokens estimated"


def is_anthropics(exchange: Exchange) -> bool:
    """Whether a client of Anthropic's API asks: by the path, otherwise by headers that only those
    send."""
    return (
        exchange.target.startswith(_MESSAGES)
        or exchange.header(b"anthropic-version") is not None
        or exchange.header(b"x-api-key") is not None
    )


def say_hello(exchange: Exchange) -> None:
    """Claude Code looks whether it reaches anybody; no key is needed for that."""
    exchange.respond(200, render_headers([(b"content-type", b"application/json")]), b"{}")


def model_told(model: dict[str, Any]) -> dict[str, Any]:
    """A model of OpenAI's form in Anthropic's; what it costs is added as there."""
    created = datetime.fromtimestamp(model["created"], UTC)
    return {
        "type": "model",
        "id": model["id"],
        "display_name": model["id"],
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "capabilities": None,
        "max_input_tokens": model["context_tokens_max"],
        "max_tokens": model["output_tokens_max"],
        "price": model["price"],
    }


def model_page(models: Sequence[dict[str, Any]], target: bytes) -> dict[str, Any]:
    """One page of the list, as `limit`, `after_id` and `before_id` ask. Raises `InvalidCall`."""
    query = parse_qs(target.partition(b"?")[2].decode("latin-1"))
    names = [each["id"] for each in models]
    begin, end = 0, len(models)
    if after := query.get("after_id"):
        begin = _place(names, after[0], "after_id") + 1
    if before := query.get("before_id"):
        end = _place(names, before[0], "before_id")
    limit = _limit(query.get("limit", [str(_PAGE)])[0])
    if before and not after:
        begin = max(begin, end - limit)
        has_more = begin > 0
    else:
        has_more = end - begin > limit
    page = [model_told(each) for each in models[begin:end][:limit]]
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise InvalidCall(f"{param}: there is no model '{name[:200]}' in this list.", param=param)
    return names.index(name)


def _limit(said: str) -> int:
    if said.isdigit() and len(said) < 6 and 1 <= int(said) <= _PAGE_MAX:
        return int(said)
    raise InvalidCall(f"limit: must be a number from 1 to {_PAGE_MAX}.", param="limit")


async def counted(counting: Counting, call: Call) -> tuple[bytes, Headers]:
    """The tokens of a message, and what to tell of the count. Where no upstream counts, the relay
    does, by the rule that it counts text by; without any count, clients ask models for it, and that
    costs money."""
    try:
        return await counting.count(call), []
    except InvalidCall as error:
        if error.code != "endpoint_not_supported":
            raise
    tokens = max(1, input_tokens_counted(call.request))
    return json.dumps({"input_tokens": tokens}).encode(), [(b"x-merino-adjusted", _ADJUSTED)]
