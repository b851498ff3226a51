"""Reads what providers export of usage and costs: answers of their APIs, and their pages' CSV.

Sources: OpenAI's usage and costs API (platform.openai.com/docs/api-reference/usage), Anthropic's
usage and cost reports (platform.claude.com/docs/en/api/admin) and its console's CSV, OpenRouter's
activity (openrouter.ai/docs/api).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from merino.domain.errors import InvalidCall
from merino.domain.money import NANOS_PER_UNIT
from merino.exports.tables import Cells, moment, read_table
from merino.reconcile.nouns import OTHER, Billed, Charged, Place, Statement

Row = Billed | Charged

_TIMES = (
    "start_time_iso", "start_time", "starting_at", "usage_date_utc", "date", "day", "timestamp",
)  # fmt: skip
_MODEL = ("model", "model_version", "model_permaslug", "model_name")
_STANDARD = frozenset(("", "default", "standard", "none", "null", "auto", "message"))

_OPENAI_KEY = ("api_key_id", "api_key_name")
_OPENAI_CALLS = ("num_model_requests", "num_requests", "requests")
_OPENAI_PIECES = (
    (("images", "num_images"), "image"),
    (("num_sessions",), "code_interpreter"),
    (("characters",), "characters"),
    (("seconds",), "seconds"),
)
_OPENAI_OBJECTS = {
    "organization.usage.web_searches.result": "web_search",
    "organization.usage.file_searches.result": "file_search",
}
"""Usage that is counted in calls alone."""
_LINE_KINDS = (
    ("cache write", "cache_write"),
    ("cached", "cached"),
    ("audio input", "audio_input"),
    ("audio output", "audio_output"),
    ("image input", "image_input"),
    ("image output", "image_output"),
    ("web search", "web_search"),
    ("file search", "file_search"),
    ("code interpreter", "code_interpreter"),
    ("input", "input"),
    ("output", "output"),
)
"""What a line of a bill is for, by the words in it; the first that is there."""
_TIER_WORDS = ("batch", "flex", "priority", "scale")

_ANTHROPIC_KEY = ("api_key_id", "api_key")
_ANTHROPIC_UNITS = {
    "input": ("uncached_input_tokens", "usage_input_tokens_no_cache"),
    "cached": ("cache_read_input_tokens", "usage_input_tokens_cache_read"),
    "cache_write_5m": (
        "cache_creation_ephemeral_5m_input_tokens",
        "usage_input_tokens_cache_write_5m",
    ),
    "cache_write_1h": (
        "cache_creation_ephemeral_1h_input_tokens",
        "usage_input_tokens_cache_write_1h",
    ),
    "output": ("output_tokens", "usage_output_tokens"),
    "web_search": ("server_tool_use_web_search_requests", "web_search_count"),
}
_ANTHROPIC_KINDS = {
    "uncached_input_tokens": "input",
    "input_no_cache": "input",
    "cache_read_input_tokens": "cached",
    "input_cache_read": "cached",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "input_cache_write_5m": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "input_cache_write_1h": "cache_write_1h",
    "output_tokens": "output",
    "output": "output",
}

_PLAIN_CALLS = ("requests", "calls", "num_requests", "num_model_requests", "request_count")
_PLAIN_INPUT = ("input_tokens", "prompt_tokens", "tokens_prompt", "native_tokens_prompt")
_PLAIN_OUTPUT = ("output_tokens", "completion_tokens", "tokens_completion")
_PLAIN_CACHED = ("cached_tokens", "input_cached_tokens", "cache_read_tokens")
_PLAIN_COST = ("cost", "cost_usd", "amount", "amount_usd", "usage", "total_cost")
_PLAIN_KEY = ("api_key_id", "api_key", "key", "api_key_name")


def read_statement(provider: str, files: Iterable[tuple[str, str]]) -> Statement:
    """Read files, given by name and text. Raises `InvalidCall` that names file, row and column."""
    read, wanted = _READERS[provider]
    usage: list[Billed] = []
    costs: list[Charged] = []
    for name, text in files:
        found = 0
        table = read_table(text, name, _refusal(wanted), (*_TIMES, "end_time", "ending_at"))
        for cells in table:
            for row in read(cells):
                found += 1
                if isinstance(row, Billed):
                    usage.append(row)
                else:
                    costs.append(row)
        if not found:
            raise InvalidCall(
                f"{name} has no usage and no costs; is it an export of {provider}?",
                code="invalid_export",
            )
    return Statement(tuple(usage), tuple(costs))


def _refusal(wanted: Sequence[str]) -> Callable[[Sequence[str]], str | None]:
    def refuse(columns: Sequence[str]) -> str | None:
        if not any(each in columns for each in _TIMES):
            return f"has no column with a day ({', '.join(_TIMES[:5])})"
        if not any(each in columns for each in wanted):
            return f"has neither usage nor costs (such as {', '.join(wanted[:3])})"
        return None

    return refuse


def _place(cells: Cells, model: str, key: str) -> Place:
    seconds = cells.time(_TIMES)
    if seconds is None:
        raise InvalidCall(
            f"{cells.place} has no day; export it by day ({', '.join(_TIMES[:5])})",
            code="invalid_export",
        )
    return Place(moment(seconds).strftime("%Y-%m-%d"), model, key)


def _counts(cells: Cells, columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {kind: n for kind, names in columns.items() if (n := cells.count(names))}


def _tier(word: str) -> str:
    word = word.strip().lower()
    return "" if word in _STANDARD else word


def _dollars(amount: Fraction) -> Fraction:
    return amount * NANOS_PER_UNIT


def _refuse_currency(cells: Cells, names: Sequence[str]) -> None:
    currency = cells.text(names).upper()
    if currency not in ("", "USD"):
        raise InvalidCall(
            f"{cells.place}: the costs are in {currency[:10]}; upstream costs are kept in USD",
            code="invalid_export",
        )


def _openai(cells: Cells) -> Iterable[Row]:
    if cells.has(("amount_value", "cost_usd")):
        _refuse_currency(cells, ("amount_currency",))
        nanos = _dollars(cells.amount(("amount_value", "cost_usd")))
        if not nanos:
            return
        line = cells.text(("line_item", "usage_type"))
        model, kind, tier = _line_item(line)
        model = cells.text(("model",)) or model
        yield Charged(_place(cells, model, cells.text(_OPENAI_KEY)), kind, nanos, line, tier)
        return
    place = _place(cells, cells.text(_MODEL), cells.text(_OPENAI_KEY))
    tier = "batch" if cells.is_true("batch") else _tier(cells.text(("service_tier",)))
    calls = cells.count(_OPENAI_CALLS)
    piece = _OPENAI_OBJECTS.get(cells.text(("object",)))
    units = _openai_units(cells) if piece is None else {piece: calls}
    if calls or units:
        yield Billed(place, calls, units, tier)


def _openai_units(cells: Cells) -> dict[str, int]:
    """Cached, written, audio and image tokens lie inside the input, as in its answers."""
    parts = {
        "cached": cells.count(("input_cached_tokens",)),
        "cache_write": cells.count(("input_cache_write_tokens",)),
        "audio_input": cells.count(("input_audio_tokens",)),
        "image_input": cells.count(("input_image_tokens",)),
    }
    whole, output = cells.count(("input_tokens",)), cells.count(("output_tokens",))
    audio, image = cells.count(("output_audio_tokens",)), cells.count(("output_image_tokens",))
    if sum(parts.values()) > whole or audio + image > output:
        raise InvalidCall(
            f"{cells.place}: the token counts contradict each other (more cached, audio or image "
            "tokens than there are)",
            code="invalid_export",
        )
    units = {
        "input": whole - sum(parts.values()),
        **parts,
        "output": output - audio - image,
        "audio_output": audio,
        "image_output": image,
        **{kind: cells.count(names) for names, kind in _OPENAI_PIECES},
    }
    return {kind: count for kind, count in units.items() if count}


def _line_item(line: str) -> tuple[str, str, str]:
    """Model, kind and tier of a line such as ``gpt-5-2025-08-07, cached input``."""
    model, comma, what = line.rpartition(", ")
    words = (what if comma else line).lower()
    kind = next((kind for word, kind in _LINE_KINDS if word in words), OTHER)
    tier = next((word for word in _TIER_WORDS if re.search(rf"\b{word}\b", words)), "")
    return model.strip() if comma else ("" if kind != OTHER else line), kind, tier


def _anthropic(cells: Cells) -> Iterable[Row]:
    model, key = cells.text(_MODEL), cells.text(_ANTHROPIC_KEY)
    tier = _tier(cells.text(("service_tier", "usage_type")))
    if cells.has(("cost_usd", "amount")):
        _refuse_currency(cells, ("currency",))
        in_cents = not cells.has(("cost_usd",))  # the API tells the lowest unit of the currency
        nanos = _dollars(cells.amount(("cost_usd", "amount"))) / (100 if in_cents else 1)
        token, cost_type = cells.text(("token_type",)), cells.text(("cost_type",))
        kind = _ANTHROPIC_KINDS.get(token, token or cost_type or OTHER)
        what = cells.text(("description",)) or token or cost_type
        if nanos:
            yield Charged(_place(cells, model, key), kind, nanos, what, tier)
        return
    units = _counts(cells, _ANTHROPIC_UNITS)
    if units:
        yield Billed(_place(cells, model, key), None, units, tier)


def _plain(cells: Cells) -> Iterable[Row]:
    """Usage and cost in one row; input counts what was cached."""
    place = _place(cells, cells.text(_MODEL), cells.text(_PLAIN_KEY))
    cached = cells.count(_PLAIN_CACHED)
    whole = cells.count(_PLAIN_INPUT)
    if cached > whole:
        raise InvalidCall(f"{cells.place}: more cached tokens than input", code="invalid_export")
    units = {"input": whole - cached, "cached": cached, "output": cells.count(_PLAIN_OUTPUT)}
    units = {kind: count for kind, count in units.items() if count}
    calls = cells.count(_PLAIN_CALLS) if cells.has(_PLAIN_CALLS) else None
    if calls or units:
        yield Billed(place, calls, units)
    nanos = _dollars(cells.amount(_PLAIN_COST))
    if nanos:
        yield Charged(place, OTHER, nanos)


_READERS: Mapping[str, tuple[Callable[[Cells], Iterable[Row]], tuple[str, ...]]] = {
    "openai": (
        _openai,
        ("input_tokens", "amount_value", "cost_usd", "num_model_requests", "images", "seconds"),
    ),
    "anthropic": (
        _anthropic,
        ("usage_output_tokens", "cost_usd", "amount", "output_tokens", "uncached_input_tokens"),
    ),
    "openrouter": (_plain, ("usage", "prompt_tokens", "requests")),
    "other": (_plain, (*_PLAIN_INPUT, *_PLAIN_COST)),
}
PROVIDERS = tuple(_READERS)
HOSTS: Mapping[str, str] = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "openrouter": "openrouter.ai",
}
"""Where each answers calls."""
