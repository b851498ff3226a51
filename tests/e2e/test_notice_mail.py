"""Notices by mail from a whole relay."""

from __future__ import annotations

import time

import pytest
from tests.unit.billing.smtp_server import MailServer


def config(port: int, more: str = "") -> str:
    return f"""
[notices.smtp]
host = "127.0.0.1"
port = {port}
security = "none"
sender = "Merino <merino@example.org>"
{more}
"""


def wait_for_letters(server: MailServer, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(server.letters) < count:
        assert time.monotonic() < deadline, f"{len(server.letters)} of {count} letters came"
        time.sleep(0.05)


def test_a_low_balance_is_mailed_to_its_owner_once(start_relay):
    """To the account's own address; a server that is busy gets it again, a restart sends nothing
    twice; the notice says how it was delivered."""
    with MailServer(("merino", "pw")) as server:
        login = 'username = "merino"\npassword = "env:SMTP_PASSWORD"'
        relay = start_relay(config(server.port, login), env={"SMTP_PASSWORD": "pw"})
        email = ("--notice-email", "ada@example.org")
        relay.cli("accounts", "update", "default", "--notice-below", "1000", *email)
        wait_for_letters(server, 1)
        [letter] = server.letters
        assert ("merino@example.org", ["ada@example.org"]) == server.envelopes[0]
        assert "Low balance: default has 5.00 USD" == letter["Subject"]
        relay.stop()
        relay.start()
        relay.cli("accounts", "update", "default", "--spend-cap", "0.0000001")
        time.sleep(3)  # a sweep is every two seconds
        assert 1 == len(server.letters)
        assert "pw" not in relay.errors()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('username = "merino"', "notices.smtp.password"),
        ('to = ["not an address"]', "not a mail address"),
        ('security = "ssl"', "security"),
    ],
)
def test_mail_that_is_set_up_wrongly(start_relay, more, told):
    """The relay does not start, and names the setting."""
    text = config(25, more) if "security" not in more else config(25).replace("none", "ssl")
    with pytest.raises(AssertionError, match=told):
        start_relay(text)


@pytest.mark.parametrize("address", ["ada", "a@b@c", "a b@c.org", "a@b.org\nBcc: x@y.org", "@c"])
def test_addresses_that_are_none(relay, address):
    """They are refused before they are kept."""
    done = relay.cli("accounts", "update", "default", "--notice-email", address, check=False)
    assert (2, True) == (done.returncode, "is not a mail address" in done.stderr)
