"""The adapters that settings ask for, with their secrets: ways to pay, to tell and to sign in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parseaddr
from pathlib import Path
from time import time

from merino.control.accounts import is_mail_address
from merino.control.keys import epoch_ms
from merino.control.ports import PaymentProvider
from merino.dashboard.oidc import OidcProvider
from merino.domain.account import Account
from merino.domain.errors import Misconfigured
from merino.payments.invoice import InvoiceProvider
from merino.payments.stripe import StripeProvider, StripeTerms
from merino.settings import Settings
from merino.settings.credentials import read_secret
from merino.telemetry.mail import MailSender, MailTerms
from merino.telemetry.webhooks import WebhookSender

NoticeSender = WebhookSender | MailSender


def payment_providers(settings: Settings, environ: Mapping[str, str]) -> dict[str, PaymentProvider]:
    providers: dict[str, PaymentProvider] = {}
    stripe = settings.payments.stripe
    if stripe is not None:
        terms = StripeTerms(
            secret_key=_secret(settings, environ, "payments.stripe.secret_key", stripe.secret_key),
            webhook_secret=_secret(
                settings, environ, "payments.stripe.webhook_secret", stripe.webhook_secret
            ),
            success_url=stripe.success_url,
            cancel_url=stripe.cancel_url,
            payment_methods=stripe.payment_methods,
            tolerance_s=stripe.tolerance_s,
            api_base=stripe.api_base,
        )
        providers["stripe"] = StripeProvider(terms, time)
    if settings.payments.invoice is not None:
        providers["invoice"] = InvoiceProvider(settings.payments.invoice.instructions)
    return providers


def notice_senders(
    settings: Settings, environ: Mapping[str, str], account_of: Callable[[str], Account]
) -> list[NoticeSender]:
    notices = settings.notices
    senders: list[NoticeSender] = []
    if notices.webhook_url is not None:
        if not notices.webhook_url.startswith(("https://", "http://")):
            raise Misconfigured(
                f"notices.webhook_url = {notices.webhook_url[:80]!r}: must begin with https://"
            )
        secret = _secret(settings, environ, "notices.webhook_secret", notices.webhook_secret)
        senders.append(WebhookSender(notices.webhook_url, secret, epoch_ms))
    smtp = notices.smtp
    if smtp is not None:
        password = ""
        if smtp.username:
            password = _secret(settings, environ, "notices.smtp.password", smtp.password)
        terms = MailTerms(
            host=smtp.host,
            port=smtp.port,
            security=smtp.security,
            sender=smtp.sender,
            username=smtp.username,
            password=password,
            to=smtp.to,
            ca_file=None if smtp.ca_file is None else str(smtp.ca_file),
        )
        for address in (parseaddr(smtp.sender)[1], *smtp.to):
            if not is_mail_address(address):
                raise Misconfigured(f"notices.smtp: {address[:100]!r} is not a mail address")
        senders.append(MailSender(terms, lambda id_: account_of(id_).notice_email, epoch_ms))
    return senders


def oidc_provider(settings: Settings, environ: Mapping[str, str]) -> OidcProvider | None:
    oidc = settings.dashboard.oidc
    if oidc is None:
        return None
    secret = ""
    if oidc.client_secret:
        secret = _secret(settings, environ, "dashboard.oidc.client_secret", oidc.client_secret)
    return OidcProvider(oidc, secret)


def _secret(settings: Settings, environ: Mapping[str, str], key: str, reference: str) -> str:
    folder = Path() if settings.path is None else settings.path.parent
    try:
        secret = read_secret(reference, folder=folder, environ=environ)
    except ValueError as error:
        raise Misconfigured(f"{key}: {error}", param=key) from None
    if not secret:
        raise Misconfigured(f"{key} is empty; give it as env:NAME or file:PATH", param=key)
    return secret
