"""Refused requests are remembered, so many for each key and minute."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from merino.domain.call import Attempt, CallRecord
from merino.domain.errors import InvalidCall
from merino.gateway.refused import (
    MESSAGE_LENGTH_MAX,
    REFUSED_PER_MINUTE_IN_ALL,
    STRANGERS,
    RefusedRequests,
)
from merino.telemetry.metrics import REFUSED_SERIES_MAX, Metrics
from merino.telemetry.redaction import redact


class Kept:
    """A ledger that keeps records in a list."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.records.append(record)


def refusal(key_id: str, code: str = "invalid_type") -> CallRecord:
    return CallRecord("req_1", "acct", key_id, "", "", 0, 400, error_code=code)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", STRANGERS]), st.integers(0, 200_000))),
    st.integers(0, 5),
)
def test_no_key_keeps_more_in_a_minute_than_it_may(requests, per_minute):
    """However requests of several keys mix, each keeps its first ones of every minute; all count."""
    now_ms = 0
    kept: Any = Kept()
    counted = Counter()
    refused = RefusedRequests(
        kept,
        on_refused=lambda status, code: counted.update([(status, code)]),
        per_minute=per_minute,
        now_ms=lambda: now_ms,
    )
    expected = 0
    seen: Counter[tuple[int, str]] = Counter()
    for key_id, passed_ms in requests:
        now_ms += passed_ms
        minute = (now_ms // 60_000, key_id)
        seen[minute] += 1
        expected += seen[minute] <= per_minute
        refused.keep(refusal(key_id))

    assert expected == len(kept.records)
    assert len(requests) == counted.total()


def test_many_keys_together_have_a_bound_too():
    """Who may make keys cannot fill the disk by making many."""
    kept: Any = Kept()
    refused = RefusedRequests(kept, per_minute=2, now_ms=lambda: 0)
    for number in range(REFUSED_PER_MINUTE_IN_ALL + 10):
        refused.keep(refusal(f"key_{number}"))

    assert REFUSED_PER_MINUTE_IN_ALL == len(kept.records)


def test_items_of_batches_are_not_bounded():
    """Their number is the batch's own."""
    kept: Any = Kept()
    refused = RefusedRequests(kept, per_minute=0)
    refused.keep(refusal("a"), is_bounded=False)

    assert 1 == len(kept.records)


def test_what_is_kept_of_a_message_is_short_and_without_secrets():
    """A secret is taken out whole, also where the message is cut."""
    secret = "sk-" + "a1b2c3d4" * 8
    refused = RefusedRequests(cast("Any", Kept()), redact=redact)
    for before in (0, MESSAGE_LENGTH_MAX - 20, MESSAGE_LENGTH_MAX - 3, 5000):
        message = "x" * before + f" {secret} refused"
        told = refused.told(InvalidCall(message))
        assert told is not None
        assert len(told) <= MESSAGE_LENGTH_MAX
        assert secret[:12] not in told
        attempts = refused.redacted([Attempt("d", 0.0, 1.0, "UpstreamRefused", message=message)])
        assert told == attempts[0].message


def test_the_counter_has_a_bounded_number_of_series():
    """Codes beyond the bound are counted as `other`, so none is lost."""
    metrics = Metrics()
    for number in range(REFUSED_SERIES_MAX + 50):
        metrics.request_refused(400, f"code_{number}")
    family = next(each for each in metrics.collect() if each.name == "merino_refused_requests")

    assert REFUSED_SERIES_MAX + 1 == len(family.samples)
    assert REFUSED_SERIES_MAX + 50 == sum(sample.value for sample in family.samples)
