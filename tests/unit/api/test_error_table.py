"""The one table of errors: each that callers can meet has a status, a type and a code of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.api.errors import RETRY_AFTER_S_MAX, body_of, headers_of, status_of
from merino.domain import errors
from merino.domain.errors import InvalidCall, LimitExceeded, MerinoError, UpstreamRefused

PAGE = Path(__file__).parents[3] / "docs/reference/errors.md"
SERVER, UPSTREAM, REQUEST = "server_error", "upstream_error", "invalid_request_error"
EXPECTED: dict[str, tuple[int, str, str | None]] = {
    "MerinoError": (500, SERVER, "internal_error"),
    "CallRefused": (500, SERVER, "internal_error"),
    "Misconfigured": (500, SERVER, "internal_error"),
    "InvalidCall": (400, REQUEST, None),
    "BodyTooLarge": (413, REQUEST, "request_too_large"),
    "CannotTranslate": (400, REQUEST, None),
    "KeyRejected": (401, "authentication_error", "invalid_api_key"),
    "AliasNotAllowed": (404, REQUEST, "model_not_found"),
    "NotFound": (404, REQUEST, "not_found"),
    "LimitExceeded": (429, "rate_limit_error", "rate_limit_exceeded"),
    "BudgetExhausted": (429, "insufficient_quota", "insufficient_quota"),
    "Conflict": (409, REQUEST, "idempotency_key_in_use"),
    "EventRefused": (400, REQUEST, "event_refused"),
    "StoreUnavailable": (503, SERVER, "store_unavailable"),
    "ShuttingDown": (503, SERVER, "shutting_down"),
    "PaymentFailed": (502, SERVER, "payment_failed"),
    "CardDeclined": (502, SERVER, "payment_failed"),
    "PaymentUncertain": (502, SERVER, "payment_failed"),
    "UpstreamFailed": (502, UPSTREAM, "upstream_failed"),
    "NoDeploymentAvailable": (503, SERVER, "no_deployment_available"),
    "UpstreamUnreachable": (502, UPSTREAM, "upstream_unreachable"),
    "UpstreamBroken": (502, UPSTREAM, "upstream_broken"),
    "UpstreamTimedOut": (504, UPSTREAM, "upstream_timeout"),
    "StreamBroken": (502, UPSTREAM, "upstream_stream_broken"),
    "LimitIgnored": (502, UPSTREAM, "upstream_stream_broken"),
    "HoldOutgrown": (429, "insufficient_quota", "insufficient_quota"),
}
OF_THE_VENDOR = {"UpstreamRefused"}
"""Its status and words are what the upstream said."""


def family(kind: type[MerinoError]) -> Iterator[type[MerinoError]]:
    """Those of `domain.errors`: other modules' own reach no caller."""
    if kind.__module__ == errors.__name__:
        yield kind
    for each in kind.__subclasses__():
        yield from family(each)


def told(error: MerinoError) -> dict[str, object]:
    whole = json.loads(body_of(error))
    assert ["error"] == list(whole)
    return whole["error"]


def test_every_error_is_expected_here() -> None:
    """A new kind of error is given its status on purpose, not by whom it descends from."""
    assert EXPECTED.keys() | OF_THE_VENDOR == {each.__name__ for each in family(MerinoError)}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_error_is_told_as_its_kind_says(name: str) -> None:
    """Its status, and OpenAI's four fields; the message goes out word for word."""
    error: MerinoError = getattr(errors, name)("It is so. Do this.")
    status, kind, code = EXPECTED[name]
    assert status == status_of(error)
    assert {
        "message": "It is so. Do this.",
        "type": kind,
        "param": None,
        "code": code,
    } == told(error)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_an_error_says_of_itself_comes_first(name: str) -> None:
    """The field that is wrong and a code of its own stand in place of the kind's."""
    error: MerinoError = getattr(errors, name)("no", param="messages[2]", code="own_code")
    assert ("messages[2]", "own_code") == (told(error)["param"], told(error)["code"])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("idempotency_key_reused", 422),
        ("idempotency_key_in_use", 409),
        ("max_cost_exceeded", 400),
        ("insufficient_quota", 429),
    ],
)
def test_codes_whose_status_is_their_own(code: str, expected: int) -> None:
    """A key used for another body is 422 though a conflict is 409; a cost above the caller's own
    bound is their mistake (400) though no credit is 429."""
    kind = errors.Conflict if code.startswith("idempotency") else errors.BudgetExhausted
    assert expected == status_of(kind("no", code=code))


@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (400, None, UPSTREAM),
        (429, "tokens", "tokens"),
        (500, None, SERVER),
        (503, "overloaded_error", "overloaded_error"),
        (418, "", UPSTREAM),
    ],
)
def test_a_vendors_refusal_keeps_its_own_words(
    status: int, error_type: str | None, expected: str
) -> None:
    """Status, type, field and code as it said them; only a missing type is ours."""
    error = UpstreamRefused(
        "Slow down", status=status, error_type=error_type, param="model", code="busy"
    )
    assert status == status_of(error)
    assert {
        "message": "Slow down",
        "type": expected,
        "param": "model",
        "code": "busy",
    } == told(error)


def test_half_a_character_costs_no_message() -> None:
    """A message that UTF-8 cannot carry goes out with a mark in its place."""
    assert "caf? \U0001f642" == told(InvalidCall("caf\ud800 \U0001f642"))["message"]


@given(
    st.one_of(st.none(), st.floats(min_value=0, max_value=1e9, allow_nan=False)),
    st.sampled_from(sorted(EXPECTED)),
)
def test_headers_never_send_a_client_back_too_early(after_s: float | None, name: str) -> None:
    """Whole seconds and milliseconds, both at least what was said and within a minute; or the word
    that it is pointless, which also stands beside a time cut to a minute."""
    error: MerinoError = getattr(errors, name)("no", retry_after_s=after_s)
    headers = dict(headers_of(error))
    if b"retry-after" not in headers:
        assert after_s is None or b"x-should-retry" in headers
        return
    assert after_s is not None
    seconds, ms = int(headers[b"retry-after"]), int(headers[b"retry-after-ms"])
    assert min(after_s, RETRY_AFTER_S_MAX) <= seconds <= RETRY_AFTER_S_MAX
    assert min(after_s, RETRY_AFTER_S_MAX) * 1000 <= ms <= seconds * 1000
    assert (after_s > RETRY_AFTER_S_MAX) == (b"x-should-retry" in headers)


def test_the_page_gives_each_status_that_the_table_gives() -> None:
    """Whoever reads the page of errors finds no other status beside a code than the code has."""
    rows = re.findall(r"^\| ([\dx, ]+) \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    statuses = {
        code: {int(each) for each in given.split(",")}
        for given, codes in rows
        if "x" not in given
        for code in re.findall(r"`(\w+)`", codes)
    }
    of_kinds = {code: status for status, _, code in EXPECTED.values() if code in statuses}
    assert len(of_kinds) > 12
    for code, status in of_kinds.items():
        assert status in statuses[code], code


def test_a_limit_that_says_when_is_believed() -> None:
    """What stands in the header is what the limit said, rounded up."""
    headers = headers_of(LimitExceeded("wait", retry_after_s=2.0001))
    assert [(b"retry-after", b"3"), (b"retry-after-ms", b"2001")] == headers
