"""Price files: reading them, and what is wrong with one, by file, line, key and value."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NoReturn, cast

from merino.domain.errors import Misconfigured
from merino.domain.money import parse_nanos
from merino.domain.usage import UNITS, Units
from merino.pricing.price import PPM, STANDARD_TIERS, TIER_NAMES, Price, PriceKey, Rates

FACTOR_MAX = 1000


def read_prices(
    paths: Iterable[Path | str],
    *,
    overrides: Iterable[Mapping[str, Any]],
    account_factor: Decimal | str | float,
    packaged: bool,
) -> tuple[dict[PriceKey, list[Price]], dict[tuple[str, str], str]]:
    """All rows by provider, model and tier, and further names of models. `PriceBook.load` says what
    the arguments mean. Raises `Misconfigured`."""
    factor_ppm = _ppm(account_factor, _Place("settings", "prices.account_factor"))
    files: list[Path] = []
    for given in paths:
        path = Path(given)
        files += sorted(path.glob("*.toml")) if path.is_dir() else [path]
    rows: dict[PriceKey, list[Price]] = {}
    names: dict[tuple[str, str], str] = {}
    for read, tiers in _packaged(factor_ppm) if packaged else ():
        _add(rows, names, read)
        _add_tiers(rows, tiers)
    for file in files:
        read, tiers = _read_file(file, factor_ppm)
        _add(rows, names, read)
        _add_tiers(rows, tiers)
    own: list[_Row] = []
    for number, entry in enumerate(overrides, start=1):
        place = _Place("settings", f"prices entry {number}")
        own += _read_entry(entry, "", "settings", place, factor_ppm)
    _add(rows, names, own)
    return rows, names


@lru_cache(maxsize=2)
def _packaged(factor_ppm: int) -> Sequence[tuple[Sequence[_Row], Sequence[_Tier]]]:
    """Read once: they are part of the program, which a reload does not change either."""
    folder = resources.files("merino.pricing") / "prices"
    files = [item for item in folder.iterdir() if item.name.endswith(".toml")]
    return [_read_file(file, factor_ppm) for file in sorted(files, key=lambda item: item.name)]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands, for messages."""

    file: str
    entry: str
    line: int | None = None

    def refuse(self, key: str, value: object, why: str) -> NoReturn:
        line = "" if self.line is None else f" line {self.line}"
        shown = "" if value is None else f" = {str(value)[:80]!r}"
        raise Misconfigured(f"{self.file}{line}: {self.entry}: {key}{shown}: {why}", param=key)


_Row = tuple[Price, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Tier:
    """A service tier at a factor of the standard price, of all models of a file or of some."""

    provider: str
    name: str
    factor: Decimal
    caches: bool
    models: frozenset[str]
    source: str

    def price(self, standard: Price) -> Price:
        head, _, since = standard.id.partition("@")
        upstream = standard.upstream.times(self.factor, caches=self.caches)
        account = upstream
        if standard.account is not standard.upstream:
            account = standard.account.times(self.factor, caches=self.caches)
        return replace(
            standard,
            id=f"{head}:{self.name}@{since}",
            tier=self.name,
            upstream=upstream,
            account=account,
            source=self.source or standard.source,
        )


def _add_tiers(rows: dict[PriceKey, list[Price]], tiers: Iterable[_Tier]) -> None:
    """Rows of a tier that has a factor, where there is none that says what it costs."""
    for tier in tiers:
        for (provider, model, of), standard in list(rows.items()):
            is_meant = not tier.models or model in tier.models
            key = (provider, model, tier.name)
            if provider == tier.provider and of is None and is_meant and key not in rows:
                rows[key] = [tier.price(each) for each in standard]


def _add(
    rows: dict[PriceKey, list[Price]], names: dict[tuple[str, str], str], new: Iterable[_Row]
) -> None:
    fresh: set[PriceKey] = set()
    for price, also in new:
        key = (price.provider, price.model, price.tier)
        if key not in fresh:
            fresh.add(key)
            rows[key] = []
        rows[key].append(price)
        for name in also:
            names[price.provider, name] = price.model


def _read_file(file: Traversable, factor_ppm: int) -> tuple[list[_Row], list[_Tier]]:
    name = str(file) if isinstance(file, Path) else file.name
    try:
        text = file.read_text("utf-8")
        content = tomllib.loads(text, parse_float=Decimal)
    except FileNotFoundError:
        raise Misconfigured(f"{name}: there is no such price file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{name}: the price file cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{name}: not valid TOML: {error}") from None
    whole = _Place(name, "top level")
    for key in content:
        if key not in {"provider", "source", "units", "price", "tier"}:
            whole.refuse(
                key,
                None,
                "unknown key; a price file has provider, source, units, [[price]] and [[tier]]",
            )
    provider = content.get("provider", "")
    if not isinstance(provider, str):
        whole.refuse("provider", provider, "must be a name in quotes")
    source = content.get("source", "")
    if not isinstance(source, str):
        whole.refuse("source", source, "must be text in quotes")
    tools = _units(content, _NO_RATES, whole, "")
    entries: object = content.get("price", [])
    if not isinstance(entries, list):
        whole.refuse("price", None, "must be tables written as [[price]]")
    lines = [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if re.match(r"\s*\[\[\s*price\s*\]\]", line)
    ]
    read: list[_Row] = []
    seen: set[str] = set()
    for index, entry in enumerate(cast("list[object]", entries)):
        line = lines[index] if index < len(lines) else None
        place = _Place(name, f"price {index + 1}", line)
        if not isinstance(entry, dict):
            place.refuse("price", entry, "must be a table")
        members = cast("dict[str, Any]", entry)
        for row in _read_entry(members, provider, source, place, factor_ppm, tools):
            if row[0].id in seen:
                place.refuse("model", row[0].id, "is priced twice for the same date")
            seen.add(row[0].id)
            read.append(row)
    return read, _read_tiers(
        content.get("tier", []), provider, name, {row[0].model for row in read}
    )


def _read_tiers(tiers: object, provider: str, file: str, priced: set[str]) -> list[_Tier]:
    if not isinstance(tiers, list):
        _Place(file, "top level").refuse("tier", None, "must be tables written as [[tier]]")
    read: list[_Tier] = []
    for number, entry in enumerate(cast("list[object]", tiers), start=1):
        place = _Place(file, f"tier {number}")
        if not isinstance(entry, dict):
            place.refuse("tier", entry, "must be a table")
        members = cast("dict[str, Any]", entry)
        for key in members:
            if key not in {"name", "factor", "caches", "models", "source"}:
                place.refuse(
                    key, members[key], "unknown key; known are caches, factor, models, name, source"
                )
        name, source = members.get("name"), members.get("source", "")
        if not isinstance(name, str) or name in STANDARD_TIERS or name in TIER_NAMES:
            place.refuse("name", name, 'must be a tier such as "batch"')
        if not isinstance(source, str):
            place.refuse("source", source, "must be text in quotes")
        if not provider:
            place.refuse("provider", provider, "a tier needs the provider at the file's top")
        given: object = members.get("models", [])
        models = set(cast("list[object]", given)) if isinstance(given, list) else {None}
        if models - priced:
            place.refuse("models", sorted(map(str, models - priced)), "are not priced by this file")
        caches = members.get("caches", True)
        if not isinstance(caches, bool):
            place.refuse("caches", caches, "must be true or false")
        factor = _factor("factor", members.get("factor"), place)
        meant = frozenset(str(each) for each in models)
        read.append(_Tier(provider, name, factor, caches, meant, source))
    return read


def _factor(key: str, value: object, place: _Place) -> Decimal:
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        place.refuse(key, value, "must be a number such as 0.5")
    factor = Decimal(str(value))
    if not 0 <= factor <= FACTOR_MAX:
        place.refuse(key, value, f"must be between 0 and {FACTOR_MAX}")
    return factor


_RATE_KEYS = (
    "input",
    "cached",
    "cache_write",
    "output",
    "audio_input",
    "audio_output",
    "image_input",
)
_ENTRY_KEYS = frozenset(
    {
        *_RATE_KEYS,
        "per_call",
        "steps",
        "units",
        "provider",
        "model",
        "also",
        "valid_from",
        "tier",
        "hours_utc",
        "weekdays_only",
        "account",
        "account_factor",
    }
)


def _read_entry(
    entry: Mapping[str, Any],
    provider: str,
    source: str,
    place: _Place,
    factor_ppm: int,
    tools: Units = (),
) -> Iterator[_Row]:
    model = entry.get("model")
    if not isinstance(model, str) or not model:
        place.refuse("model", model, "must be the model's name in quotes")
    place = replace(place, entry=f"price of {model!r}")
    for key in entry:
        if key not in _ENTRY_KEYS:
            place.refuse(
                key, entry[key], f"unknown key; known are {', '.join(sorted(_ENTRY_KEYS))}"
            )
    owner = entry.get("provider", provider)
    if not isinstance(owner, str) or not owner:
        place.refuse("provider", owner, "must be the provider's name, here or at the file's top")
    tier = entry.get("tier")
    if tier is not None and (not isinstance(tier, str) or tier in STANDARD_TIERS):
        place.refuse(
            "tier", tier, 'must be a tier such as "flex"; leave it out for the standard one'
        )
    names = _further_names(entry, place)
    upstream = _read_rates(entry, place, tools=tools)
    account, account_ppm = upstream, factor_ppm
    if "account" in entry:
        account, account_ppm = _account_rates(entry, place, tools), PPM
    elif "account_factor" in entry:
        account_ppm = _ppm(entry["account_factor"], place)
    valid_from = _date(entry.get("valid_from", date(1970, 1, 1)), place)
    hours = _hours(entry.get("hours_utc", []), place)
    weekdays_only = entry.get("weekdays_only", False)
    if not isinstance(weekdays_only, bool) or (weekdays_only and not hours):
        place.refuse("weekdays_only", weekdays_only, "must be true or false, and needs hours_utc")
    price_id = f"{owner}/{model}" + (f":{tier}" if tier else "") + f"@{valid_from.isoformat()}"
    price = Price(
        price_id,
        owner,
        model,
        valid_from,
        tier,
        upstream,
        account,
        account_ppm,
        None,
        weekdays_only,
        source,
    )
    if not hours:
        yield price, names
    for window in hours:
        limited = replace(price, hours_utc=window, id=_with_hours(price_id, window))
        yield limited, names


def _further_names(entry: Mapping[str, Any], place: _Place) -> tuple[str, ...]:
    also = entry.get("also", [])
    if not isinstance(also, list):
        place.refuse("also", also, "must be a list of further names of the model")
    names: list[str] = []
    for name in cast("list[object]", also):
        if not isinstance(name, str):
            place.refuse("also", name, "must be a name in quotes")
        names.append(name)
    return tuple(names)


def _account_rates(entry: Mapping[str, Any], place: _Place, tools: Units) -> Rates:
    """What accounts pay, where the entry has rates of its own for that."""
    if "account_factor" in entry:
        factor = entry["account_factor"]
        place.refuse("account_factor", factor, "give account or a factor, not both")
    own: object = entry["account"]
    if not isinstance(own, dict):
        place.refuse("account", own, "must be a table such as { input = 2.10, output = 8.40 }")
    members = cast("dict[str, Any]", own)
    for key in members:
        if key not in {*_RATE_KEYS, "per_call", "steps", "units"}:
            place.refuse(f"account.{key}", members[key], "unknown key")
    return _read_rates(members, place, "account.", tools)


def _with_hours(price_id: str, window: tuple[int, int]) -> str:
    start, end = window
    return f"{price_id}T{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}Z"


def _read_rates(
    entry: Mapping[str, Any], place: _Place, prefix: str = "", tools: Units = ()
) -> Rates:
    """`tools` are what the file says of all its models."""
    base = _rates(entry, None, place, prefix)
    if tools:
        base = replace(base, units=tuple(sorted({**dict(tools), **dict(base.units)}.items())))
    steps: object = entry.get("steps", [])
    if not isinstance(steps, list):
        place.refuse(f"{prefix}steps", steps, "must be a list of tables with above_input_tokens")
    read: list[tuple[int, Rates]] = []
    for step in cast("list[object]", steps):
        if not isinstance(step, dict):
            place.refuse(f"{prefix}steps", step, "must be a table with above_input_tokens")
        members = cast("dict[str, Any]", step)
        for key in members:
            if key not in {*_RATE_KEYS, "above_input_tokens", "units"}:
                place.refuse(f"{prefix}steps.{key}", members[key], "unknown key")
        above = members.get("above_input_tokens")
        if not isinstance(above, int) or isinstance(above, bool) or above < 1:
            place.refuse(f"{prefix}steps.above_input_tokens", above, "must be a number of tokens")
        if read and above <= read[-1][0]:
            place.refuse(f"{prefix}steps.above_input_tokens", above, "steps must ascend")
        read.append((above, _rates(members, base, place, f"{prefix}steps.")))
    return replace(base, steps=tuple(read))


def _rates(entry: Mapping[str, Any], base: Rates | None, place: _Place, prefix: str) -> Rates:
    """Rates left out are those of plain input or output; in a step, those of the base if it has
    its own."""

    def rate(key: str, fallback: int | None) -> int:
        value = entry.get(key)
        if value is None:
            if fallback is None:
                place.refuse(prefix + key, None, "is missing; give dollars per million tokens")
            return fallback
        return _amount(prefix + key, value, place)

    def special(key: str, plain: int, base_plain: int, base_rate: int) -> int:
        # A rate that the base has of its own stays; one that only followed the plain rate follows.
        own = base is not None and base_rate != base_plain
        return rate(key, base_rate if own else plain)

    plain_input = rate("input", base.input if base else None)
    plain_output = rate("output", base.output if base else None)
    old = base or _NO_RATES
    if base is not None:
        per_call_nanos = base.per_call_nanos
    else:
        per_call_nanos = _amount(f"{prefix}per_call", entry.get("per_call", 0), place)
    return Rates(
        plain_input,
        special("cached", plain_input, old.input, old.cached),
        special("cache_write", plain_input, old.input, old.cache_write),
        plain_output,
        special("audio_input", plain_input, old.input, old.audio_input),
        special("audio_output", plain_output, old.output, old.audio_output),
        special("image_input", plain_input, old.input, old.image_input),
        per_call_nanos,
        units=_units(entry, old, place, prefix),
    )


def _units(entry: Mapping[str, Any], base: Rates, place: _Place, prefix: str) -> Units:
    """The rates of units; in a step, those left out are the base's."""
    given: object = entry.get("units", {})
    key = f"{prefix}units"
    if not isinstance(given, dict):
        place.refuse(key, given, "must be a table such as { cache_write_1h = 6.00 }")
    rates = dict(base.units)
    for unit, value in cast("dict[str, Any]", given).items():
        if unit not in UNITS:
            place.refuse(f"{key}.{unit}", value, f"unknown; known are {', '.join(sorted(UNITS))}")
        rates[unit] = _amount(f"{key}.{unit}", value, place)
    return tuple(sorted(rates.items()))


_NO_RATES = Rates(0, 0, 0, 0, 0, 0, 0)
_PRICE_NANOS_MAX = 10**6 * 10**9


def _amount(key: str, value: object, place: _Place) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        place.refuse(key, value, "must be an amount in dollars such as 2.50")
    try:
        nanos = parse_nanos(value)
    except ValueError as error:
        place.refuse(key, value, str(error))
    if not 0 <= nanos <= _PRICE_NANOS_MAX:
        place.refuse(key, value, "must be between 0 and 1,000,000 dollars")
    return nanos


def _ppm(value: object, place: _Place) -> int:
    key = "account_factor"
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        place.refuse(key, value, "must be a factor such as 1.25")
    try:
        nanos = parse_nanos(value)
    except ValueError:
        place.refuse(key, value, "must be a factor such as 1.25")
    if nanos % 1000 or not 0 <= nanos <= FACTOR_MAX * 10**9:
        place.refuse(key, value, f"must be between 0 and {FACTOR_MAX}, with at most six decimals")
    return nanos // 1000


def _date(value: object, place: _Place) -> date:
    day = value
    if isinstance(value, str):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        place.refuse("valid_from", value, "must be a date such as 2025-06-10")
    return day


_HOURS = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")


def _hours(value: object, place: _Place) -> list[tuple[int, int]]:
    if not isinstance(value, list):
        place.refuse("hours_utc", value, 'must be a list such as ["01:00-04:00"]')
    windows: list[tuple[int, int]] = []
    for item in cast("list[object]", value):
        match = _HOURS.fullmatch(item) if isinstance(item, str) else None
        if match is None:
            place.refuse("hours_utc", item, 'must be hours such as "01:00-04:00"')
        start_h, start_m, end_h, end_m = (int(part) for part in match.groups())
        start, end = start_h * 60 + start_m, end_h * 60 + end_m
        if start_m > 59 or end_m > 59 or start >= 1440 or end > 1440 or start == end:
            place.refuse("hours_utc", item, "is not a span of hours within a day")
        windows.append((start, end))
    return windows
