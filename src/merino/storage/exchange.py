"""Exchange rates: few, all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from merino.domain.currencies import ExchangeRate
from merino.domain.errors import Conflict
from merino.pricing.margin import RateBook
from merino.sqlite.database import Database
from merino.sqlite.writer import Writer

_LOAD = "SELECT base, quote, valid_from, rate_micros, source FROM exchange_rates ORDER BY 1, 2, 3"


class ExchangeStore:
    """`billing.ports.ExchangeRates`. `book` is replaced, never changed, so that it can be kept."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._writer = writer
        self._configured: dict[tuple[str, str, date], ExchangeRate] = {}
        self._use(_load(database))

    def configure(self, rates: Iterable[ExchangeRate]) -> None:
        """Rates of the settings, which take precedence over stored ones of the same pair and
        day."""
        self._configured = {(each.base, each.quote, each.valid_from): each for each in rates}
        self._use(self._kept)

    def list(self) -> Sequence[ExchangeRate]:
        """By pair, oldest first."""
        return list(self._rates)

    def find(self, base: str, quote: str, at_ms: int) -> ExchangeRate | None:
        return self.book.find(base, quote, at_ms)

    async def put(self, rates: Iterable[ExchangeRate]) -> None:
        """Add rates; one of the same pair and day is replaced. Entries keep the rate they were
        booked with. Raises `Conflict` for a rate that the settings give."""
        new = list(rates)
        for each in new:
            if (each.base, each.quote, each.valid_from) in self._configured:
                raise Conflict(
                    f"{each.base}/{each.quote} of {each.valid_from} is given by [[exchange_rates]] "
                    "in the settings; change it there, or name another day",
                    code="rate_configured",
                )
        rows = [
            (each.base, each.quote, each.valid_from.isoformat(), each.rate_micros, each.source)
            for each in new
        ]

        def write(database: Database) -> Sequence[ExchangeRate]:
            database.execute_many("INSERT OR REPLACE INTO exchange_rates VALUES (?,?,?,?,?)", rows)
            return _load(database)

        await self._writer.write("setting exchange rates", write, self._use)

    def _use(self, kept: Sequence[ExchangeRate]) -> None:
        self._kept = kept
        by_day = {(each.base, each.quote, each.valid_from): each for each in kept}
        by_day |= self._configured
        self._rates = [by_day[key] for key in sorted(by_day)]
        self.book = RateBook(self._rates)


def _load(database: Database) -> list[ExchangeRate]:
    return [
        ExchangeRate(base, quote, date.fromisoformat(day), micros, source)
        for base, quote, day, micros, source in database.execute(_LOAD)
    ]
