"""Notices to account owners and operators by mail: plain text over SMTP, tried again until it is
taken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Literal, cast

from merino.billing.nouns import Notice
from merino.billing.senders.outbox import Outbox, again_ms

TIMEOUT_S = 30.0
_ERROR_LENGTH_MAX = 300


@dataclass(frozen=True, slots=True)
class MailTerms:
    """How mail is handed over. `to` gets every notice, besides the account's own address."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    username: str = ""
    password: str = field(default="", repr=False)
    to: Sequence[str] = ()
    ca_file: str | None = None


class MailSender:
    """Sends over one connection what is due. `address_of` is an account's own address."""

    def __init__(
        self, terms: MailTerms, address_of: Callable[[str], str | None], now_ms: Callable[[], int]
    ) -> None:
        self._terms = terms
        self._address_of = address_of
        self._now_ms = now_ms

    async def send_due(self, outbox: Outbox, limit: int = 50) -> int:
        """Try what is due; how many were taken. What has nobody to go to waits unsent."""
        letters: list[tuple[Notice, Sequence[str]]] = []
        for notice in await outbox.due("mail", limit):
            # One to operators is about no account.
            own = self._address_of(notice.account_id) if notice.account_id else None
            wanted = [own, *self._terms.to] if own else [*self._terms.to]
            readers = list(dict.fromkeys(wanted))
            if readers:
                letters.append((notice, readers))
            else:
                nobody = "the account has no notice_email"
                if not notice.account_id:
                    nobody = "notices.smtp.to is empty"
                await outbox.failed(notice.id, "mail", nobody, None)
        if not letters:
            return 0
        # smtplib blocks, so it runs on a thread.
        errors = await asyncio.to_thread(self._send, letters)
        for (notice, _), error in zip(letters, errors, strict=True):
            if error is None:
                await outbox.delivered(notice.id, "mail")
            else:
                why, is_final = error
                again = None if is_final else again_ms(notice, self._now_ms())
                await outbox.failed(notice.id, "mail", why[:_ERROR_LENGTH_MAX], again)
        return errors.count(None)

    def _send(
        self, letters: Sequence[tuple[Notice, Sequence[str]]]
    ) -> list[tuple[str, bool] | None]:
        """What went wrong with each, and whether trying again is pointless."""
        errors: list[tuple[str, bool] | None] = []
        try:
            with contextlib.ExitStack() as stack:
                server = connected(self._terms, stack)
                for notice, readers in letters:
                    errors.append(self._hand_over(server, self._letter(notice, readers)))
        except (OSError, smtplib.SMTPException, ValueError) as error:
            rest = len(letters) - len(errors)
            errors += [(f"{type(error).__name__}: {error}", False)] * rest
        return errors

    def _hand_over(self, server: smtplib.SMTP, letter: EmailMessage) -> tuple[str, bool] | None:
        try:
            refused = server.send_message(letter)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
            codes = [code for code, _ in refused.values()]
            return f"refused: {_told(refused)}", all(code >= 500 for code in codes)
        except smtplib.SMTPResponseException as error:
            with contextlib.suppress(smtplib.SMTPException):
                server.rset()
            is_final = error.smtp_code >= 500
            return f"{error.smtp_code} {_text(error.smtp_error)}", is_final
        # Somebody has it; sending it again for the others would give it to the first twice.
        return None

    def _letter(self, notice: Notice, readers: Sequence[str]) -> EmailMessage:
        facts = cast("dict[str, Any]", json.loads(notice.body))
        letter = EmailMessage()
        letter["From"] = self._terms.sender
        letter["To"] = ", ".join(readers)
        letter["Subject"] = subject(facts)
        sent_at = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        letter["Date"] = format_datetime(sent_at)
        # The same letter sent twice, after a crash, is the same letter to a reader's mailbox.
        domain = self._terms.sender.rpartition("@")[2].rstrip("> ") or "merino"
        letter["Message-ID"] = f"<{notice.id}@{domain}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(text(facts))
        return letter


def connected(terms: MailTerms, stack: contextlib.ExitStack) -> smtplib.SMTP:
    """A server that takes letters until `stack` is left. It blocks: on a thread."""
    context = ssl.create_default_context(cafile=terms.ca_file)
    server: smtplib.SMTP
    if terms.security == "tls":
        server = smtplib.SMTP_SSL(terms.host, terms.port, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(terms.host, terms.port, timeout=TIMEOUT_S)
    stack.callback(_leave, server)
    if terms.security == "starttls":
        server.starttls(context=context)
    if terms.username:
        server.login(terms.username, terms.password)
    return server


_SUBJECTS = {
    "balance.low": "Low balance: {account} has {balance} {currency}",
    "cap.near": "Spend cap: {account} has used {spent} of {cap} {currency}",
    "cap.reached": "Spend cap reached: {account}",
    "topup.paid": "Top-up received: {amount} {currency} for {account}",
    "topup.needed": "Please pay a top-up for {account}",
    "topup.failed": "Top-up failed: {account}",
    "deployment.credential_refused": "Credential refused: deployment {deployment} ({status})",
    "deployment.credit_exhausted": "Credit used up at the provider: deployment {deployment}",
    "deployment.gone": "Model or path gone: deployment {deployment} ({status})",
    "deployment.denied": "Calls refused: deployment {deployment} ({status})",
    "deployment.usage_odd": "Odd usage: deployment {deployment} ({oddity})",
    "journal.damaged": "The journal was damaged",
}
_AT_DEPLOYMENT = (
    "Deployment {deployment}: {what} ({status}) since {since}. Calls go to other deployments, or "
    "fail if there is none.\n\n{advice}"
)
_SENTENCES = {
    "balance.low": "The balance of {account} is {balance} {currency}, below {below}. Calls are "
    "refused once it is used up.",
    "cap.near": "{account} has spent {spent} of its cap of {cap} {currency} ({period}).",
    "cap.reached": "{account} has spent {spent} of its cap of {cap} {currency} ({period}). Further "
    "calls are refused until the cap is raised or the period ends.",
    "topup.paid": "{amount} {currency} were credited to {account}.",
    "topup.needed": "The balance of {account} is {balance} {currency}, so a top-up was ordered. It "
    "is credited once it is paid.",
    "topup.failed": "A top-up of {account} failed: {reason}",
    "deployment.credential_refused": _AT_DEPLOYMENT,
    "deployment.credit_exhausted": _AT_DEPLOYMENT,
    "deployment.gone": _AT_DEPLOYMENT,
    "deployment.denied": _AT_DEPLOYMENT,
    "deployment.usage_odd": "Deployment {deployment}: the usage of {calls} calls is odd "
    "({oddity}), the last of them {call}.\n\n{advice}",
    "journal.damaged": "{what}",
}
_LABELS = (
    ("said", "What it said"),
    ("url", "Pay here"),
    ("instructions", "How to pay"),
    ("topup", "Top-up"),
    ("at", "Time"),
)


class _Facts(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "?"


def subject(facts: Mapping[str, Any]) -> str:
    """One line; an account's name has no line breaks, but what comes from outside may."""
    template = _SUBJECTS.get(str(facts.get("kind")), "Notice about {account}")
    return " ".join(template.format_map(_Facts(facts)).split())


def text(facts: Mapping[str, Any]) -> str:
    template = _SENTENCES.get(str(facts.get("kind")), "A notice about {account}.")
    lines = [template.format_map(_Facts(facts)), ""]
    lines += [f"{label}: {facts[name]}" for name, label in _LABELS if facts.get(name)]
    return "\n".join(lines) + "\n"


def _told(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{who}: {code} {_text(why)}" for who, (code, why) in refused.items())


def _text(raw: bytes | str) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


def _leave(server: smtplib.SMTP) -> None:
    with contextlib.suppress(smtplib.SMTPException, OSError):
        server.quit()
