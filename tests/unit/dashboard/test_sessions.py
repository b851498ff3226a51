"""How long somebody stays signed in."""

from __future__ import annotations

from dataclasses import replace

from merino.dashboard.sessions import IDLE_S, LONGEST_S, Session, Sessions


def test_switching_accounts_makes_no_session_longer() -> None:
    """Time counts from the sign-in, whatever was switched to since."""
    now = 1000.0
    sessions = Sessions(lambda: now)
    session = Session("owner", "oidc anna", "acct_1")
    token = sessions.begin(session)
    end = now + LONGEST_S
    while now < end - IDLE_S / 2:
        now += IDLE_S / 2
        assert sessions.find(token) is session
        session = replace(session, account_id="acct_2")
        token = sessions.begin(session)
    now = end + 1
    assert sessions.find(token) is None
