"""What the operator of a relay can see on its machine: settings, folder, books, upstreams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from merino.doctor.books import Books, check_books
from merino.doctor.credential import check_upstream, upstreams_of
from merino.doctor.finding import Finding, is_healthy, ok, problem, warning
from merino.doctor.folder import check_disk, check_folder
from merino.doctor.price import check_prices, check_variables_offer
from merino.domain.errors import MerinoError, Misconfigured
from merino.pricing.book import PriceBook
from merino.pricing.tariff import Tariff
from merino.settings import Catalog, Settings, resolve

_DATABASE = "merino.db"

TariffOf = Callable[[Settings, PriceBook, Catalog], Tariff]
"""What calls are billed with by these settings."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """`read_books` reaches its admin API; raises `MerinoError` or `OSError` if it cannot."""

    path: Path
    is_relay_running: Callable[[], bool]
    read_books: Callable[[], Books]


def examine_folder(folder: DataFolder, timeout_s: float) -> list[Finding]:
    """The folder is looked at before it is opened: opening it mends its mode."""
    findings = check_folder(folder.path)
    if not is_healthy(findings):
        return findings
    findings += check_disk(folder.path)
    if not (folder.path / _DATABASE).is_file():
        seen = f"The data folder {folder.path} has no database yet."
        return [*findings, warning("database", seen, "The relay's first start makes it.")]
    if folder.is_relay_running():
        findings.append(ok("relay-stopped", "A relay runs on the data folder."))
    else:
        seen = "No relay runs on the data folder."
        findings.append(warning("relay-stopped", seen, "Start it: merino serve."))
    try:
        books = folder.read_books()
    except (MerinoError, OSError) as error:
        mend = "See the relay's log; a damaged file is restored from a backup of the data folder."
        return [*findings, problem("database", f"The database cannot be used: {error}", mend)]
    return findings + check_books(books, timeout_s)


def examine_catalog(
    settings: Settings, environ: Mapping[str, str], tariff_of: TariffOf, step_timeout_s: float
) -> tuple[list[Finding], list[str]]:
    """Prices, as calls are billed, and upstreams; and the credentials, so that they can be
    hidden."""
    try:
        book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
        catalog = resolve(settings, environ, sorted(book.models))
    except Misconfigured as error:
        mend = "Mend it; `merino config check` looks again."
        return [problem("settings", each, mend) for each in error.message.splitlines()], []
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    tariff = tariff_of(settings, book, catalog)
    findings = check_prices(catalog, tariff, now_ms, allow_unpriced=settings.prices.allow_unpriced)
    findings += check_variables_offer(catalog)
    secrets: list[str] = []
    for upstream in upstreams_of(catalog):
        secrets += [upstream.credential, *(value for _, value in upstream.headers)]
        findings += check_upstream(upstream, environ, step_timeout_s)
    return findings, secrets
