"""Notices by mail, over real sockets."""

from __future__ import annotations

import json
import socket

import pytest
from tests.authority import make_authority
from tests.unit.billing.smtp_server import MailServer

from merino.billing.nouns import Delivery, Notice
from merino.billing.senders.mail import MailSender, MailTerms, subject, text
from merino.billing.senders.outbox import ATTEMPTS_MAX, RETRY_S_MAX, again_ms

NOW_MS = 1_790_000_000_000
FACTS = {
    "kind": "balance.low",
    "account_id": "acct_1",
    "account": "Café & Söhne",
    "currency": "EUR",
    "balance": "3.20",
    "below": "10.00",
    "at": "2026-11-24T12:00:00.000Z",
}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Outbox:
    """Notices in memory, with what became of each."""

    def __init__(self, *notices: Notice) -> None:
        self.notices = list(notices)
        self.taken: list[str] = []
        self.problems: list[tuple[str, str, int | None]] = []

    async def due(self, channel, limit):
        assert "mail" == channel
        return self.notices[:limit]

    async def delivered(self, notice_id, channel):
        self.taken.append(notice_id)

    async def failed(self, notice_id, channel, error, next_attempt_ms):
        self.problems.append((notice_id, error, next_attempt_ms))


def notice(number: int = 1, attempts: int = 0, **facts) -> Notice:
    body = json.dumps({**FACTS, **facts})
    deliveries = (Delivery("mail", attempts),)
    return Notice(f"ntc_{number}", f"o{number}", "acct_1", "balance.low", NOW_MS, body, deliveries)


def sender_for(port: int, *, own: str | None = "ada@example.org", **terms) -> MailSender:
    wanted = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "sender": "Merino <merino@example.org>",
        **terms,
    }
    return MailSender(MailTerms(**wanted), lambda account_id: own, lambda: NOW_MS)


async def test_a_notice_becomes_a_letter():
    """To the account's own address and the operator's, with a subject that says it all, an id that
    a repetition shares, and text in any script."""
    outbox = Outbox(notice())
    with MailServer() as server:
        assert 1 == await sender_for(server.port, to=("ops@example.org",)).send_due(outbox)
    [letter] = server.letters
    assert ("merino@example.org", ["ada@example.org", "ops@example.org"]) == server.envelopes[0]
    assert "Low balance: Café & Söhne has 3.20 EUR" == letter["Subject"]
    assert "<ntc_1@example.org>" == letter["Message-ID"]
    assert "auto-generated" == letter["Auto-Submitted"]
    assert "The balance of Café & Söhne is 3.20 EUR, below 10.00." in letter.get_content()
    assert ["ntc_1"] == outbox.taken


async def test_many_letters_take_one_connection():
    """What is due together goes together."""
    outbox = Outbox(*(notice(number) for number in range(5)))
    with MailServer() as server:
        assert 5 == await sender_for(server.port).send_due(outbox)
    assert (1, 5) == (server.connections, len(server.letters))


async def test_login_over_tls(tmp_path):
    """STARTTLS with a certificate that is checked, then the login."""
    ca_file, context = make_authority(tmp_path)
    outbox = Outbox(notice())
    with MailServer(("ada", "pw"), context) as server:
        sender = sender_for(
            server.port, security="starttls", username="ada", password="pw", ca_file=ca_file
        )
        assert 1 == await sender.send_due(outbox)
    assert [True] == server.encrypted


async def test_an_unknown_certificate_gets_no_password(tmp_path):
    """Then nothing is sent, and it is tried again."""
    _, context = make_authority(tmp_path)
    outbox = Outbox(notice())
    with MailServer(("ada", "pw"), context) as server:
        sender = sender_for(server.port, security="starttls", username="ada", password="pw")
        assert 0 == await sender.send_due(outbox)
    [(_, error, again)] = outbox.problems
    assert ("certificate" in error.lower(), NOW_MS + 10_000) == (True, again)


@pytest.mark.parametrize(
    ("refusal", "is_final"),
    [
        (("RCPT", "550 5.1.1 no such mailbox"), True),
        (("RCPT", "450 4.2.1 busy"), False),
        (("MAIL", "451 4.3.0 later"), False),
        (("DATA", "554 5.7.1 spam"), True),
    ],
)
async def test_refusals(refusal, is_final):
    """What a server refuses for good is not tried again, the rest is; other letters are sent."""
    outbox = Outbox(notice(1), notice(2))
    with MailServer(refusals=[refusal]) as server:
        assert 1 == await sender_for(server.port).send_due(outbox)
    [(notice_id, error, again)] = outbox.problems
    assert ("ntc_1", ["ntc_2"]) == (notice_id, outbox.taken)
    assert refusal[1][:3] in error
    assert (None if is_final else NOW_MS + 10_000) == again


async def test_a_server_that_is_not_there():
    """Every letter waits."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    outbox = Outbox(notice(1), notice(2, attempts=3))
    assert 0 == await sender_for(port).send_due(outbox)
    assert [NOW_MS + 10_000, NOW_MS + 80_000] == [again for _, _, again in outbox.problems]


async def test_a_wrong_password():
    """Nothing is sent, the reason is kept without the password, and it is tried again."""
    outbox = Outbox(notice())
    with MailServer(("ada", "right")) as server:
        sender = sender_for(server.port, username="ada", password="s3cret")
        assert 0 == await sender.send_due(outbox)
    [(_, error, again)] = outbox.problems
    assert ("535" in error, "s3cret" in error, again is None) == (True, False, False)


async def test_nobody_to_write_to():
    """An account without an address is left alone, and no server is bothered."""
    outbox = Outbox(notice())
    assert 0 == await sender_for(1, own=None).send_due(outbox)
    assert [("ntc_1", "the account has no notice_email", None)] == outbox.problems


async def test_retries_end():
    """Pauses double up to an hour; after forty attempts a letter is given up."""
    assert NOW_MS + 10_000 == again_ms(notice(attempts=0), NOW_MS)
    assert NOW_MS + RETRY_S_MAX * 1000 == again_ms(notice(attempts=20), NOW_MS)
    assert again_ms(notice(attempts=ATTEMPTS_MAX - 1), NOW_MS) is None


@pytest.mark.parametrize(
    "kind",
    [
        "balance.low",
        "cap.near",
        "cap.reached",
        "topup.paid",
        "topup.needed",
        "topup.failed",
        "one.of.tomorrow",
    ],
)
async def test_every_kind_has_words(kind):
    """Also a kind or a fact that nobody foresaw; a subject is one line whatever is in it."""
    facts = {**FACTS, "kind": kind, "reason": "line\r\nBcc: eve@example.org", "url": "https://x"}
    assert "\n" not in subject(facts)
    assert "Café & Söhne" in text(facts) + subject(facts)
    assert "https://x" in text(facts)
