"""Letters to people who wait for them: codes, invitations. They go out at once, are tried again for
a minute, and are kept in memory only, since what is in them is secret and soon too old."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

import structlog

from merino.billing.senders.mail import MailTerms, connected

log = structlog.get_logger("merino")

WAITING_MAX = 1000
PAUSES_S = (2.0, 10.0, 45.0)
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Letter:
    to: str
    subject: str
    text: str = field(repr=False)
    tries: int = 0


class LetterBox:
    """`post` returns at once, whatever becomes of the letter: nobody can tell by the time that it
    takes whether one was sent."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._terms: MailTerms | None = None
        self._waiting: deque[Letter] = deque()
        self._is_one_there = asyncio.Event()

    def configure(self, terms: MailTerms | None) -> None:
        self._terms = terms

    @property
    def is_there(self) -> bool:
        """Whether letters can be sent at all."""
        return self._terms is not None

    def post(self, to: str, subject: str, text: str) -> None:
        if len(self._waiting) >= WAITING_MAX:
            log.warning("a letter was not sent: too many wait", waiting=len(self._waiting))
            return
        self._put(Letter(to, subject, text))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as again:
            while True:
                await self._is_one_there.wait()
                self._is_one_there.clear()
                while self._waiting:
                    count = min(_AT_ONCE, len(self._waiting))
                    letters = [self._waiting.popleft() for _ in range(count)]
                    for letter, error in await asyncio.to_thread(self._send, letters):
                        if letter.tries < len(PAUSES_S):
                            again.create_task(self._later(letter))
                        else:
                            log.warning("a letter to a customer was not sent", reason=error)

    def _put(self, letter: Letter) -> None:
        self._waiting.append(letter)
        self._is_one_there.set()

    async def _later(self, letter: Letter) -> None:
        await asyncio.sleep(PAUSES_S[letter.tries])
        self._put(Letter(letter.to, letter.subject, letter.text, letter.tries + 1))

    def _send(self, letters: list[Letter]) -> list[tuple[Letter, str]]:
        """Those that may go if they are sent again, and why they did not."""
        terms, left = self._terms, list(letters)
        if terms is None:
            return []
        failed: list[tuple[Letter, str]] = []
        try:
            with contextlib.ExitStack() as stack:
                server = connected(terms, stack)
                while left:
                    letter = left.pop(0)
                    try:
                        server.send_message(self._message(terms, letter))
                    except smtplib.SMTPRecipientsRefused as error:
                        codes = [code for code, _ in error.recipients.values()]
                        if any(code < 500 for code in codes):
                            failed.append((letter, f"refused with {codes}"))
                    except smtplib.SMTPResponseException as error:
                        with contextlib.suppress(smtplib.SMTPException):
                            server.rset()
                        if error.smtp_code < 500:
                            failed.append((letter, f"refused with {error.smtp_code}"))
                        else:
                            log.warning(
                                "a letter to a customer was refused", status=error.smtp_code
                            )
                    except BaseException:
                        left.insert(0, letter)
                        raise
        except (OSError, smtplib.SMTPException, ValueError) as error:
            failed += [(letter, f"{type(error).__name__}: {error}"[:300]) for letter in left]
        return failed

    def _message(self, terms: MailTerms, letter: Letter) -> EmailMessage:
        message = EmailMessage()
        message["From"] = terms.sender
        message["To"] = letter.to
        message["Subject"] = " ".join(letter.subject.split())
        message["Date"] = format_datetime(datetime.fromtimestamp(self._now_ms() / 1000, UTC))
        domain = terms.sender.rpartition("@")[2].rstrip("> ") or "merino"
        message["Message-ID"] = make_msgid(domain=domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        return message
