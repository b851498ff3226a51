"""What calls cost: price files, prices of one's own, margins, exchange rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from merino.settings.declaring import amount, named_sections, optional_amount, section, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """A price of one's own, as amounts per million tokens."""

    input_nanos: int = amount("0", "Per million input tokens.", key="input")
    output_nanos: int = amount("0", "Per million output tokens.", key="output")
    cached_nanos: int | None = optional_amount(
        "Per million input tokens read from the cache; as `input` if left out.", key="cached"
    )
    cache_write_nanos: int | None = optional_amount(
        "Per million input tokens written to the cache; as `input` if left out.", key="cache_write"
    )
    image_input_nanos: int | None = optional_amount(
        "Per million image input tokens; as `input` if left out.", key="image_input"
    )
    audio_input_nanos: int | None = optional_amount(
        "Per million audio input tokens; as `input` if left out.", key="audio_input"
    )
    audio_output_nanos: int | None = optional_amount(
        "Per million audio output tokens; as `output` if left out.", key="audio_output"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkupSettings:
    factor: Annotated[Decimal, Meta(extra={"ge": 0, "le": 1000})] = setting(
        Decimal("1.0"), "What accounts pay, as a multiple of what the upstream charges."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    factor: Annotated[Decimal, Meta(extra={"ge": 0, "le": 1000})] = setting(
        Decimal("1.0"), "What its accounts pay, as a multiple of the account price."
    )
    fixed_nanos: int = amount("0", "Dollars added to every call that used anything.", key="fixed")
    minimum_nanos: int = amount(
        "0", "Dollars that such a call costs at least; free models stay free.", key="minimum"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesSettings:
    files: tuple[Path, ...] = setting(
        (), "Price files of your own; later files win over earlier ones and the built-in ones."
    )
    markup: MarkupSettings = section(MarkupSettings, "From cost to price.")
    groups: Mapping[str, GroupSettings] = named_sections(
        GroupSettings, "Margins by the pricing group of accounts; `standard` is the default group."
    )
    allow_unpriced: bool = setting(
        False, "Relay models without a price at no charge, instead of refusing them."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRateSettings:
    base: str = setting("", "A currency: USD, EUR, CNY, GBP, HKD or JPY.", required=True)
    quote: str = setting("", "Another one.", required=True)
    rate: Annotated[Decimal, Meta(extra={"ge": 0, "le": 1_000_000})] = setting(
        Decimal(0), "How much of `quote` one of `base` is, to six decimals.", required=True
    )
    valid_from: date = setting(
        date(1970, 1, 1), "The day (UTC) from which on it is used.", required=True
    )
