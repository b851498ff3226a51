"""What a client takes from the limits that answers tell."""

from __future__ import annotations

import pytest

from merino.client.engine import Attempt, ClientPolicy, Endpoint, Engine, room_in_s


@pytest.mark.parametrize(
    ("reset_s", "limit", "wanted", "expected"),
    [
        (60.0, 6000, 1, 0.01),
        (60.0, 60_000, 3000, 3.0),
        (60.0, 60_000, 0, 1.0),
        (60.0, 100, 500, 60.0),
        (60.0, None, 1, 60.0),
        (1.0, 0, 1, 1.0),
    ],
)
def test_when_there_is_room(reset_s, limit, wanted, expected) -> None:
    """An empty bucket has room for a call long before it is full."""
    assert expected == pytest.approx(room_in_s(reset_s, limit, wanted))


def rested_s(headers: dict[str, str], **policy) -> float | None:
    """How long the endpoint rests after an answer with these headers; `None`: not at all."""
    engine = Engine([Endpoint("http://a/v1", "a")], ClientPolicy(**policy), clock=lambda: 1000.0)
    call = engine.call(b'{"model": "o3", "max_tokens": 1000}')
    attempt = engine.attempt(call)
    assert isinstance(attempt, Attempt)
    engine.answered(call, attempt, 200, headers)
    found = engine.attempt(call)
    return None if isinstance(found, Attempt) else found


def told(what: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": limit,
        f"x-ratelimit-remaining-{what}": remaining,
        f"x-ratelimit-reset-{what}": reset,
    }


def test_an_exhausted_limit_is_waited_for() -> None:
    """Nothing is sent until there is room for one more call; what is left is used."""
    assert 0.1 == pytest.approx(rested_s(told("requests", "600", "0", "1m0s")))
    assert None is rested_s(told("requests", "600", "1", "1m0s"))
    assert 90.0 == rested_s({**told("requests", "x", "0", "1m30s")})
    assert None is rested_s(told("requests", "600", "0", "soon"))


def test_tokens_are_waited_for_as_the_call_needs_them() -> None:
    """With a limit of tokens the client knows what a call needs; without one it waits a second."""
    limited = rested_s(told("tokens", "60000", "0", "60s"), tokens_per_minute=60_000)
    assert 1.011 == pytest.approx(limited)
    assert 1.0 == pytest.approx(rested_s(told("tokens", "60000", "0", "60s")))


def test_what_takes_too_long_is_not_waited_for() -> None:
    """A limit that is full again in hours holds nobody back in silence: the next call asks, and has
    the server's own error."""
    assert None is rested_s(told("requests", "x", "0", "6m0s"))
    assert None is rested_s(told("tokens", "x", "0", "86400"))


def test_a_pause_is_one_keys() -> None:
    """A limit is a key's own: another customer of the same client goes on."""
    engine = Engine([Endpoint("http://a/v1", "")], ClientPolicy(), clock=lambda: 1000.0)

    def call_with(key: str):
        return engine.call(b"{}", primary=Endpoint("http://a/v1", key))

    call = call_with("first")
    attempt = engine.attempt(call)
    assert isinstance(attempt, Attempt)
    engine.answered(call, attempt, 200, told("requests", "x", "0", "30s"))
    assert 30.0 == engine.attempt(call_with("first"))
    assert isinstance(engine.attempt(call_with("second")), Attempt)
