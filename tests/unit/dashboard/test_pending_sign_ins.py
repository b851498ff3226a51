"""Sign-ins on their way to the provider and back."""

from __future__ import annotations

from merino.dashboard.sessions import PENDING_MAX, PENDING_S, PendingSignIn, PendingSignIns


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pending(state: str) -> PendingSignIn:
    return PendingSignIn(state, "nonce", "verifier", "https://here.example")


def test_each_is_taken_once_by_its_own_browser() -> None:
    """By cookie and state together; a wrong state does not use it up."""
    sign_ins = PendingSignIns(Clock())
    token = sign_ins.add(pending("s"))
    assert None is sign_ins.take(token, "other")
    assert None is sign_ins.take("other", "s")
    assert None is sign_ins.take(None, "s")
    assert pending("s") == sign_ins.take(token, "s")
    assert None is sign_ins.take(token, "s")


def test_it_ends_after_ten_minutes() -> None:
    """And is forgotten when the next begins."""
    clock = Clock()
    sign_ins = PendingSignIns(clock)
    token = sign_ins.add(pending("s"))
    clock.now += PENDING_S + 1
    assert None is sign_ins.take(token, "s")
    sign_ins.add(pending("t"))
    assert 1 == len(sign_ins._pending)


def test_there_are_only_so_many() -> None:
    """The oldest makes room."""
    sign_ins = PendingSignIns(Clock())
    tokens = [sign_ins.add(pending("s")) for _ in range(PENDING_MAX + 1)]
    assert PENDING_MAX == len(sign_ins._pending)
    assert None is sign_ins.take(tokens[0], "s")
    assert None is not sign_ins.take(tokens[1], "s")


def test_its_secrets_are_not_shown() -> None:
    """Not in a log, should it ever get there."""
    assert "verifier" not in repr(pending("s"))
