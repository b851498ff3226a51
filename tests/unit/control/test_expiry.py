"""How long files are kept is what callers ask, within what is allowed."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.control.batches import FileDesk, expiry_of
from merino.domain.errors import InvalidCall
from merino.settings.sections.batches import BatchesSettings

HOUR_S, MONTH_S = 3_600, 30 * 86_400


def asked(seconds: object, anchor: object = "created_at") -> dict[str, object]:
    return {"anchor": anchor, "seconds": seconds}


@given(st.integers(HOUR_S, MONTH_S), st.booleans())
def test_what_openai_takes_is_taken(seconds, is_text) -> None:
    """From an hour to 30 days, as a number or, out of a form, as text."""
    assert seconds == expiry_of(asked(str(seconds) if is_text else seconds), "expires_after")


def test_nothing_asked_is_nothing() -> None:
    """Files are kept as the settings say then."""
    assert None is expiry_of(None, "expires_after")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (3600, "expires_after"),
        ([], "expires_after"),
        ("soon", "expires_after"),
        ({}, "expires_after.anchor"),
        (asked(3600, "last_active_at"), "expires_after.anchor"),
        (asked(None), "expires_after.seconds"),
        (asked(True), "expires_after.seconds"),
        (asked(3600.5), "expires_after.seconds"),
        (asked("٣٦٠٠"), "expires_after.seconds"),
        (asked("-3600"), "expires_after.seconds"),
        (asked("9" * 5000), "expires_after.seconds"),
        (asked(HOUR_S - 1), "expires_after.seconds"),
        (asked(MONTH_S + 1), "expires_after.seconds"),
    ],
)
def test_what_is_wrong_names_its_field(value, field) -> None:
    """Refused with the field that is to be mended, never kept in silence for another time."""
    with pytest.raises(InvalidCall) as refused:
        expiry_of(value, "expires_after")
    assert field == refused.value.param
    assert "invalid_value" == refused.value.code


@given(st.none() | st.integers(HOUR_S, MONTH_S), st.integers(1, 60))
def test_a_file_is_kept_as_asked_and_no_longer_than_the_settings_say(seconds, keep_days) -> None:
    """What is shorter counts, from the file's creation on."""
    desk = FileDesk(cast("Any", None), BatchesSettings(keep_days=keep_days))
    file = desk.new("acct", "out.jsonl", "batch_output", 0, seconds)
    kept_s = (file.expires_at_ms - file.created_at_ms) // 1000
    assert min(keep_days * 86_400, seconds or keep_days * 86_400) == kept_s
