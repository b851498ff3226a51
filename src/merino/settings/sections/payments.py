"""How credit is paid for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from merino.settings.declaring import Seconds, amount, optional_section, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    secret_key: str = setting(
        "", "Stripe's secret key: `env:NAME` or `file:PATH`.", required=True, secret=True
    )
    webhook_secret: str = setting(
        "",
        "Signing secret of the webhook endpoint: `env:NAME` or `file:PATH`.",
        required=True,
        secret=True,
    )
    success_url: str = setting("", "Where the browser goes after paying.", required=True)
    cancel_url: str = setting("", "Where it goes when payment was given up.", required=True)
    payment_methods: tuple[str, ...] = setting(
        (), "Such as `card`, `alipay`, `wechat_pay`; left out: whatever the Stripe account offers."
    )
    tolerance_s: Seconds = setting(
        300.0, "How old, or how far ahead of our clock, an event's signature may be."
    )
    api_base: str | None = setting(None, "Address of Stripe's API, if it is not Stripe's own.")


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceSettings:
    instructions: str = setting(
        "Transfer {amount} {currency} and give {reference} as the reference.",
        "What the payer is told; {amount}, {currency} and {reference} are filled in.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsSettings:
    topup_min_nanos: int = amount("5.00", "Least one top-up may be.", key="topup_min")
    topup_max_nanos: int = amount("10000.00", "Most one top-up may be.", key="topup_max")
    stripe: StripeSettings | None = optional_section(
        StripeSettings, "Stripe Checkout; its events go to `/webhooks/stripe`."
    )
    automatic_per_day_max: Annotated[int, Meta(ge=1, le=1000)] = setting(
        5, "Most top-ups an account's own rule may order within 24 hours."
    )
    seller: str = setting(
        "",
        "Who sells, on invoices and statements: name, address, tax number. Lines stay lines.",
    )
    invoice_note: str = setting(
        "", "What stands below the amount of an invoice, such as a word about tax."
    )
    invoice: InvoiceSettings | None = optional_section(
        InvoiceSettings, "Bank transfer, confirmed by an operator."
    )
