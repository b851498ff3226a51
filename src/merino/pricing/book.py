"""The price book: what every model costs, since when. Data in `prices/*.toml`, read at startup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from merino.pricing.price import CHEAPER_TIERS, STANDARD_TIERS, TIER_NAMES, Price, PriceKey
from merino.pricing.price_files import read_prices

_SNAPSHOT = re.compile(r"(?:-\d{4}-\d{2}-\d{2}|-\d{8}|@\d{8}|-latest)$")
_FOUND_MAX = 4096


class PriceBook:
    """Finds the price of a model at a time."""

    def __init__(
        self, prices: Iterable[Price], names: Mapping[tuple[str, str], str] | None = None
    ) -> None:
        self._rows: dict[PriceKey, list[tuple[int, Price]]] = {}
        self._tiers: set[tuple[str, str]] = set()
        self._names = dict(names or {})
        self._found: dict[PriceKey, tuple[tuple[int, Price], ...]] = {}
        for price in prices:
            day = datetime.combine(price.valid_from, datetime.min.time(), UTC)
            key = (price.provider, price.model, price.tier)
            self._rows.setdefault(key, []).append((int(day.timestamp() * 1000), price))
            if price.tier is not None:
                self._tiers.add((price.provider, price.tier))
        for rows in self._rows.values():
            # Newest first; of one day, the row limited to hours goes before the one that is not.
            rows.sort(key=lambda row: (-row[0], row[1].hours_utc is None))

    @classmethod
    def load(
        cls,
        paths: Iterable[Path | str] = (),
        *,
        overrides: Iterable[Mapping[str, Any]] = (),
        account_factor: Decimal | str | float = 1,
        packaged: bool = True,
    ) -> PriceBook:
        """Read the packaged data, then `paths` (files or folders of them), then `overrides`.

        An entry replaces every earlier entry of the same provider, model and tier from sources
        before its own. `overrides` are entries as in a file's ``[[price]]``, with a `provider`.
        `account_factor` marks up every price that has no account price or factor of its own.
        Raises `Misconfigured` that names file, line, key and value.
        """
        rows, names = read_prices(
            paths, overrides=overrides, account_factor=account_factor, packaged=packaged
        )
        return cls((price for group in rows.values() for price in group), names)

    def find(self, provider: str, model: str, at_ms: int, tier: str | None = None) -> Price | None:
        """The price of a call at `at_ms`, `None` if the book has none.

        A dated snapshot without a row of its own (`o3-2025-04-16`) costs what its base name costs.
        `tier` is the service tier: where a provider has tiers, a cheaper one (`flex`, `batch`)
        without a row falls back to the standard price, a dearer one has no price then. Providers
        without tiers have one price.
        """
        if tier is not None:
            tier = TIER_NAMES.get(tier, tier)
        key = (provider, model, tier)
        rows = self._found.get(key)
        if rows is None:
            rows = tuple(self._search(provider, model, tier))
            if rows and len(self._found) < _FOUND_MAX:
                self._found[key] = rows
        for valid_from_ms, price in rows:
            if valid_from_ms <= at_ms and price.is_valid_at(at_ms):
                return price
        return None

    def prices(self) -> Iterator[Price]:
        """Every row, newest first within a model."""
        for rows in self._rows.values():
            for _, price in rows:
                yield price

    @cached_property
    def models(self) -> frozenset[tuple[str, str]]:
        """Provider and model of every row."""
        return frozenset((provider, model) for provider, model, _ in self._rows)

    def _search(self, provider: str, model: str, tier: str | None) -> list[tuple[int, Price]]:
        if tier is None or tier in STANDARD_TIERS or (provider, tier) not in self._tiers:
            return self._named(provider, model, None)
        rows = self._named(provider, model, tier)
        if tier in CHEAPER_TIERS:
            # The tier's rows may start later than the model's.
            return rows + self._named(provider, model, None)
        return rows

    def _named(self, provider: str, model: str, tier: str | None) -> list[tuple[int, Price]]:
        for name in (model, _SNAPSHOT.sub("", model)):
            for known in (name, self._names.get((provider, name))):
                if known is None:
                    continue
                if rows := self._rows.get((provider, known, tier)):
                    return list(rows)
                if (provider, known, None) in self._rows:
                    return []  # a snapshot with a price of its own costs not what its base costs
        return []
