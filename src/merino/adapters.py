"""The adapters that settings ask for, with their secrets: ways to pay, to tell, to sign in, and to
reach upstreams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parseaddr
from pathlib import Path
from time import time

from merino.billing.loops import NoticeSender
from merino.billing.ports import PaymentProvider
from merino.billing.providers.invoice import InvoiceProvider
from merino.billing.providers.stripe import StripeProvider, StripeTerms
from merino.billing.senders.mail import MailSender, MailTerms
from merino.billing.senders.webhooks import WebhookSender
from merino.control.accounts import is_mail_address
from merino.dashboard.oidc import OidcProvider
from merino.domain.account import Account
from merino.domain.clock import epoch_ms
from merino.domain.errors import Misconfigured
from merino.providers.dialects import DIALECTS
from merino.providers.openai import parse_base_url
from merino.settings import Catalog, Settings
from merino.settings.credentials import read_secret
from merino.settings.proxies import Proxies
from merino.telemetry.hub import TelemetryPlan
from merino.transport.connecting import Origin, Trusted, read_trusted


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
    terms = mail_terms(settings, environ)
    if terms is not None:
        senders.append(MailSender(terms, lambda id_: account_of(id_).notice_email, epoch_ms))
    return senders


def mail_terms(settings: Settings, environ: Mapping[str, str]) -> MailTerms | None:
    """How letters are handed over; `None` where no mail server is configured."""
    smtp = settings.notices.smtp
    if smtp is None:
        return None
    password = ""
    if smtp.username:
        password = _secret(settings, environ, "notices.smtp.password", smtp.password)
    for address in (parseaddr(smtp.sender)[1], *smtp.to):
        if not is_mail_address(address):
            raise Misconfigured(f"notices.smtp: {address[:100]!r} is not a mail address")
    return MailTerms(
        host=smtp.host,
        port=smtp.port,
        security=smtp.security,
        sender=smtp.sender,
        username=smtp.username,
        password=password,
        to=smtp.to,
        ca_file=None if smtp.ca_file is None else str(smtp.ca_file),
    )


def telemetry_plan(settings: Settings, environ: Mapping[str, str]) -> TelemetryPlan:
    """What is told to other systems, with the secrets for them."""
    told = settings.telemetry
    authorization = ""
    if told.url and told.authorization:
        key = "telemetry.authorization"
        authorization = _secret(settings, environ, key, told.authorization)
    sinks = tuple(
        (
            sink,
            _secret(settings, environ, f"sinks[{index}].secret", sink.secret)
            if sink.secret
            else "",
        )
        for index, sink in enumerate(settings.sinks)
    )
    return TelemetryPlan(told, authorization, sinks)


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


def origin_of(catalog: Catalog, scheme: str, host: str, port: int) -> Origin:
    """With the certificates that the deployments there are trusted by."""
    return next(
        (each for each in _origins(catalog) if each[:3] == (scheme, host, port)),
        Origin(scheme, host, port),
    )


def trusted_certificates(catalog: Catalog) -> Trusted:
    """What upstreams are trusted by, as it is in the files now. Raises `Misconfigured`."""
    origins = _origins(catalog)
    try:
        return read_trusted(origins)
    except OSError as error:
        files = sorted({each.ca_file for each in origins if each.ca_file is not None})
        raise Misconfigured(
            f"The certificates to trust cannot be read ({', '.join(files) or 'the system'}): "
            f"{error.strerror or error}. A ca_file holds certificates in PEM format."
        ) from error


def check_deployments(catalog: Catalog, environ: Mapping[str, str]) -> None:
    """Raises `Misconfigured` if calls could not be sent to a deployment, or would reach it through
    a proxy that the relay does not speak: they would fail, or go out in a way nobody wants."""
    for deployment in catalog.deployments:
        if deployment.provider in DIALECTS:
            DIALECTS[deployment.provider].check(deployment)
    proxies = Proxies(environ)
    for scheme, host, port, _ in _origins(catalog):
        proxy = proxies.of(scheme, host, port)
        why_not = None if proxy is None else proxy.why_not_spoken()
        if proxy is not None and why_not is not None:
            raise Misconfigured(
                f"Calls to {host} would go through the proxy of {proxy.variable}, whose URL "
                f"{why_not}. Name one like http://proxy.example:3128, or add {host} to NO_PROXY."
            )


def _origins(catalog: Catalog) -> list[Origin]:
    """Where deployments are; those with certificates of their own first."""
    found: list[Origin] = []
    for each in catalog.deployments:
        if each.provider == "openai":
            address = parse_base_url(each.base_url, f"deployment '{each.name}'")
            ca_file = catalog.ca_files.get(each.name)
            found.append(
                Origin(
                    address.scheme,
                    address.host,
                    address.port,
                    None if ca_file is None else str(ca_file),
                )
            )
    return sorted(found, key=lambda each: each.ca_file is None)
