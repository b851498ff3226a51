"""Prices out of the package genai-prices, as rows of our book: to propose, never to bill with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from merino.domain.errors import Misconfigured
from merino.pricing.book import PriceBook
from merino.pricing.changes import Change, moment_changes, step_rate

THEIR_PROVIDERS = {"gemini": "google", "xai": "x-ai"}
"""Where they call a provider otherwise."""

_RATES = {
    "input": "input_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "image_input": "input_image_mtok",
}
_UNITS = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}
"""Theirs are per thousand."""
_TIERS = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
"""What they call our tiers."""
CHECKED_PROVIDERS = ("anthropic", "deepseek", "gemini", "openai")
_MODELS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """A difference that is meant: of a model, or of one tier, rate or date of it."""

    model: str
    why: str
    tier: str | None = None
    rate: str | None = None
    since: date | None = None

    def covers(self, change: Change) -> bool:
        name, _, since = change.price_id.partition("@")
        model = self.model + (f":{self.tier}" if self.tier else "")
        return (
            name == model
            and self.rate in (None, change.rate)
            and (self.since is None or since.startswith(self.since.isoformat()))
        )


def accepted_differences() -> tuple[Accepted, ...]:
    """What `pricing/accepted.toml` lists."""
    text = (resources.files("merino.pricing") / "accepted.toml").read_text("utf-8")
    return tuple(Accepted(**entry) for entry in tomllib.loads(text)["accepted"])


def disagreements(book: PriceBook, on: date) -> tuple[Change, ...]:
    """What the installed genai-prices says otherwise of our models and their tiers on a day, but
    for `accepted_differences`. Raises `Misconfigured` if the package is missing."""
    accepted = accepted_differences()
    found = propose(book, CHECKED_PROVIDERS, on, with_new=False).changes
    return tuple(each for each in found if not any(known.covers(each) for known in accepted))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the package says otherwise than our book, as changes to read and entries to write."""

    version: str
    changes: tuple[Change, ...]
    entries: tuple[Mapping[str, Any], ...]

    def toml(self) -> str:
        """A price file with the proposed rows."""
        head = f"# Proposed from genai-prices {self.version}; look at each row before using it.\n"
        return head + "".join(_toml(entry) for entry in self.entries)


def propose(
    book: PriceBook, providers: Iterable[str], on: date, *, with_new: bool = True
) -> Proposal:
    """Compare `book` with the installed genai-prices on a day.

    `providers` are named as in our book. Models that only they have are proposed too unless
    `with_new` is off. Raises `Misconfigured` if the package is missing or knows no such provider.
    """
    installed, known = _installed()
    at = datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
    try:
        changes, entries = _compared(book, known, providers, at, on, with_new=with_new)
    except AttributeError as error:
        raise _unreadable(installed, error) from None
    return Proposal(installed, tuple(changes), tuple(entries))


def _installed() -> tuple[str, Any]:
    """The package's version, and its providers. Raises `Misconfigured`."""
    try:
        installed = version("genai-prices")
    except PackageNotFoundError:
        raise Misconfigured("genai-prices is not installed; pip install 'merino[prices]'") from None
    try:
        from genai_prices.data import providers
    except ImportError as error:
        raise _unreadable(installed, error) from None
    return installed, providers


def _unreadable(installed: str, error: Exception) -> Misconfigured:
    """It keeps its prices otherwise than the versions we know."""
    return Misconfigured(
        f"genai-prices {installed} cannot be read ({error}); pip install -U 'merino[prices]'"
    )


def _compared(
    book: PriceBook,
    known: Iterable[Any],
    providers: Iterable[str],
    at: datetime,
    on: date,
    *,
    with_new: bool,
) -> tuple[list[Change], list[Mapping[str, Any]]]:
    at_ms = int(at.timestamp() * 1000)
    by_id: dict[str, Any] = {each.id: each for each in known}
    changes: list[Change] = []
    entries: list[Mapping[str, Any]] = []
    for provider in providers:
        theirs = by_id.get(THEIR_PROVIDERS.get(provider, provider))
        if theirs is None:
            raise Misconfigured(
                f"genai-prices has no provider {provider[:60]!r}; it has "
                f"{', '.join(sorted(by_id))[:400]}"
            )
        for model in theirs.models[:_MODELS_MAX]:
            is_known = book.find(provider, model.id, at_ms) is not None
            if not (is_known or with_new):
                continue
            for entry in _entries(provider, model, at, on):
                found = _changes(book, entry, at_ms)
                if found:
                    changes += found
                    entries.append(entry)
    return changes, entries


def _changes(book: PriceBook, entry: Mapping[str, Any], at_ms: int) -> list[Change]:
    """Against what our book asks of the same model then; its margins are ours to keep."""
    proposed = PriceBook.load(overrides=[entry], packaged=False)
    tier = entry.get("tier")
    ours = book.find(entry["provider"], entry["model"], at_ms, tier)
    # Our book may know it as another name of a model, or have no price of this tier.
    mine = PriceBook([] if ours is None else [replace(ours, model=entry["model"], tier=tier)])
    return [
        change
        for change in moment_changes(mine, at_ms, proposed, at_ms)
        if not change.rate.startswith("account")
        and change.kind != "removed"
        # What they do not list of tools is not known.
        and (not change.rate.startswith("units.") or change.rate[6:] in entry.get("units", {}))
        # What a tier of theirs does not list is not known, and ours is the dearer then.
        and (tier is None or not change.rate or change.rate in _listed(entry))
    ]


def _listed(entry: Mapping[str, Any]) -> set[str]:
    """The rates that an entry names, as changes call them."""
    steps = {
        step_rate(name, step["above_input_tokens"])
        for step in entry.get("steps", ())
        for name in step
    }
    return set(entry) | steps


def _entries(provider: str, model: Any, at: datetime, on: date) -> Iterator[dict[str, Any]]:
    """The standard price of a model, then those of its tiers."""
    entry = _entry(provider, model.id, model.get_prices(at), on)
    if entry is None:
        return
    yield entry
    for tier, when in _TIERS.items():
        since = {
            variant.constraint.start_date if variant.constraint else date.min: variant.prices
            for variant in model.price_variants or ()
            if variant.when == when
        }
        current = max((start for start in since if start <= on), default=None)
        tiered = None if current is None else _entry(provider, model.id, since[current], on)
        if tiered is not None:
            yield {**tiered, "tier": tier}


def _entry(provider: str, model: str, prices: Any, on: date) -> dict[str, Any] | None:
    entry: dict[str, Any] = {"provider": provider, "model": model, "valid_from": on}
    steps: dict[int, dict[str, Any]] = {}
    for name, their_name in _RATES.items():
        amount: Any = getattr(prices, their_name, None)
        if amount is None:
            continue
        for tier in getattr(amount, "tiers", ()):
            steps.setdefault(tier.start, {"above_input_tokens": tier.start})[name] = tier.price
        entry[name] = getattr(amount, "base", amount)
    per_call: Any = getattr(prices, "requests_kcount", None)
    if isinstance(per_call, Decimal):
        entry["per_call"] = per_call / 1000
    if "input" not in entry and "output" not in entry:
        return None  # priced by something else than tokens
    entry.setdefault("input", Decimal(0))
    entry.setdefault("output", Decimal(0))
    units = {
        unit: amount * 1000
        for unit, their_name in _UNITS.items()
        if isinstance(amount := getattr(prices, their_name, None), Decimal)
    }
    if units:
        entry["units"] = units
    if steps:
        entry["steps"] = [steps[above] for above in sorted(steps)]
    return entry


def _toml(entry: Mapping[str, Any]) -> str:
    lines = ["", "[[price]]"]
    for key, value in entry.items():
        if key == "steps":
            steps = ", ".join(
                "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in step.items()) + " }"
                for step in value
            )
            lines.append(f"steps = [{steps}]")
        elif key == "units":
            units = ", ".join(f"{name} = {_value(each)}" for name, each in value.items())
            lines.append(f"units = {{ {units} }}")
        else:
            lines.append(f"{key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Decimal):
        return f"{value:f}" if value.as_tuple().exponent else f"{value:f}.00"
    return str(value)
