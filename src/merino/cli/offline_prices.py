"""Prices for commands that call without a relay of their own."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from merino.domain.errors import InvalidCall
from merino.domain.money import parse_nanos
from merino.domain.usage import Usage
from merino.pricing.book import PriceBook
from merino.pricing.cost import cost
from merino.pricing.estimate import input_tokens_estimate, worst_case
from merino.pricing.price import Price, Rates
from merino.pricing.tariff import own_price
from merino.settings.catalog import ceilings_of
from merino.wire.reported_usage import TOKENS_MAX
from merino.wire.request import ModelRequest
from merino.wire.served import BATCH_PATHS


class OfflinePrices:
    """Prices of the book, or the one given."""

    def __init__(self, given: str | None) -> None:
        self._own: tuple[int, int] | None = None
        if given is not None:
            try:
                rates = tuple(parse_nanos(part.strip()) for part in given.split(","))
                if len(rates) != 2 or min(rates) < 0:
                    raise ValueError("write input,output such as 2,8")
            except ValueError as error:
                raise click.UsageError(f"--price {given!r}: {error}") from None
            self._own = rates
        self._book = PriceBook.load(())
        self._found: dict[tuple[str, str | None], Price | None] = {}

    def of(self, model: str, tier: object = None) -> Price | None:
        """The price of a model at a service tier; what is no tier's name is the standard one."""
        key = model, tier if isinstance(tier, str) else None
        if key not in self._found:
            self._found[key] = self._search(*key)
        return self._found[key]

    def _search(self, model: str, tier: str | None) -> Price | None:
        if self._own is not None:
            each, output = self._own
            rates = Rates(
                input=each,
                cached=each,
                cache_write=each,
                output=output,
                audio_input=each,
                audio_output=output,
                image_input=each,
            )
            return own_price(model, rates, rates)
        provider, _, name = model.rpartition("/")
        wanted = [(provider, name)] if provider else [("openai", name)]
        wanted += sorted((p, m) for p, m in self._book.models if m == name and p != "simulator")
        now_ms = int(time.time() * 1000)
        for place in wanted:
            price = self._book.find(*place, now_ms, tier)
            if price is not None:
                return price
        return None

    def worst_nanos(self, url: str, body: dict[str, Any]) -> int | None:
        """What a call costs at most; `None` without a price."""
        price = self.of(str(body["model"]), body.get("service_tier"))
        if price is None:
            return None
        endpoint = BATCH_PATHS[url]
        try:
            # Half a surrogate pair is refused by some, and sold by others.
            sent = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            request: ModelRequest = endpoint.parse(sent.encode(errors="replace"))
        except InvalidCall:
            return 0  # it will be refused, which costs nothing
        ceiling = ceilings_of(str(body["model"])).output_tokens_max
        output = (request.output_tokens_max or ceiling) * endpoint.has_output
        return worst_case(request, price, input_tokens_estimate(request), output)

    def cost_nanos(self, body: dict[str, Any], used: Usage, served_at: str | None) -> int | None:
        """What an answer cost by its usage, at the tier that it says it was served at."""
        price = self.of(str(body["model"]), served_at or body.get("service_tier"))
        if price is None or max(used.input_tokens, used.output_tokens) > TOKENS_MAX:
            return None
        return cost(used, price).account_nanos
