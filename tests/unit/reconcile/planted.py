"""Books of the relay, and what a provider would export of the same calls."""

import json
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

from merino.domain.usage import Usage
from merino.pricing.book import PriceBook
from merino.pricing.cost import cost
from merino.reconcile import OwnCall

MONTH = ("2026-10-01", "2026-11-01")
BOOK = PriceBook.load()


def at(day, hour=12):
    """Milliseconds of an hour of a day of October; day 0 is the last of September."""
    moment = datetime(2026, 10, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)
    return int(moment.timestamp() * 1000)


def call(day, input_tokens, output_tokens, *, model="o3", hour=12, lasts_s=5, **other):
    provider = "anthropic" if model.startswith("claude") else "openai"
    price = BOOK.find(provider, model, at(day, hour))
    assert price is not None
    counts = {name: other.pop(name) for name in ("cached_tokens", "units") if name in other}
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, **counts)
    started = at(day, hour)
    given = {
        "key": "",
        "nanos": cost(usage, price).upstream_nanos,
        "tier": "",
        "source": "reported",
        "is_answered": True,
        **other,
    }
    return OwnCall(started, started + lasts_s * 1000, model, usage=usage, price=price, **given)


def rate(kind, model="o3"):
    """Dollars for one token, by the price book."""
    price = BOOK.find("openai", model, at(1))
    assert price is not None
    return Fraction(getattr(price.upstream, kind), 10**15)


def day_start(day):
    return int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) + (day - 1) * 86_400


def iso(day):
    return (date(2026, 10, 1) + timedelta(days=day - 1)).isoformat()


def usage_file(*rows):
    """OpenAI's usage API: rows of day, calls, input, output, and more members."""
    buckets = [
        {
            "object": "bucket",
            "start_time": day_start(day),
            "end_time": day_start(day + 1),
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "num_model_requests": calls,
                    "input_tokens": input_tokens,
                    "output_tokens": output_tokens,
                    "model": "o3-2025-04-16",
                    **more,
                }
            ],
        }
        for day, calls, input_tokens, output_tokens, more in rows
    ]
    return "usage.json", json.dumps({"object": "page", "data": buckets, "has_more": False})


def costs_file(*rows):
    """OpenAI's costs API: rows of day, line item, dollars, and more members."""
    buckets = [
        {
            "object": "bucket",
            "start_time": day_start(day),
            "end_time": day_start(day + 1),
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": float(dollars), "currency": "usd"},
                    "line_item": line,
                    **more,
                }
            ],
        }
        for day, line, dollars, more in rows
    ]
    return "costs.json", json.dumps({"object": "page", "data": buckets})


def token_costs(day, input_tokens, output_tokens, model="o3-2025-04-16", **more):
    """The two lines that these tokens cost by the price book."""
    return [
        (day, f"{model}, input", input_tokens * rate("input"), more),
        (day, f"{model}, output", output_tokens * rate("output"), more),
    ]
