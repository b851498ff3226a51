"""What callers say of their calls is bounded, one line each, and never breaks a call."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.call import CallRecord
from merino.gateway.labels import (
    PAIRS_MAX,
    TAG_LENGTH_MAX,
    TAGS_MAX,
    VALUE_LENGTH_MAX,
    are_said,
    label,
    tags_of,
)


def labelled(tags: tuple[str, ...] = (), **fields: object) -> CallRecord:
    record = CallRecord("c", "a", "k", "o3", "chat/completions", 0, 200)
    label(
        record,
        {name: msgspec.Raw(json.dumps(each).encode()) for name, each in fields.items()},
        tags,
    )
    return record


def test_end_user_tags_and_metadata_are_kept():
    """As the OpenAI API names them; tags are the relay's own header."""
    record = labelled(
        tags_of(b"nightly, billing ,nightly,"), user="u-1", metadata={"team": "search"}
    )
    assert ("u-1", ["nightly", "billing"], {"team": "search"}) == (
        record.end_user, json.loads(record.tags or ""), json.loads(record.metadata or ""),
    )  # fmt: skip
    assert "s-1" == labelled(safety_identifier="s-1").end_user
    assert "u-1" == labelled(safety_identifier="s-1", user="u-1").end_user


@pytest.mark.parametrize("user", [7, None, ["a"], {"a": 1}, "", "  ", "\n\t"])
def test_what_is_no_name_is_left_out(user):
    """It is the vendor's to refuse it, if it is wrong there."""
    assert labelled(user=user).end_user is None


def test_values_of_metadata_are_texts():
    """Numbers and switches as JSON has them; what is deeper is left out."""
    record = labelled(metadata={"n": 1.5, "on": True, "deep": {"a": 1}, "none": None, "a=b": "x"})
    assert {"n": "1.5", "on": "true", "a:b": "x"} == json.loads(record.metadata or "")


_TEXTS = st.text(max_size=300)


@given(
    header=st.binary(max_size=2000),
    user=_TEXTS,
    metadata=st.dictionaries(_TEXTS, st.one_of(_TEXTS, st.integers(), st.none()), max_size=40),
)
def test_all_of_it_is_bounded_and_printable(header, user, metadata):
    """Whatever comes: length, count, and one line each."""
    record = labelled(tags_of(header), user=user, metadata=metadata)
    tags = json.loads(record.tags or "[]")
    pairs = json.loads(record.metadata or "{}")
    assert TAGS_MAX >= len(tags) == len(set(tags))
    assert PAIRS_MAX >= len(pairs)
    assert all(0 < len(each) <= TAG_LENGTH_MAX for each in (*tags, *pairs))
    values = [*pairs.values(), *([record.end_user] if record.end_user else [])]
    assert all(0 < len(each) <= VALUE_LENGTH_MAX for each in values)
    assert all(each.isprintable() for each in (*tags, *pairs, *values))


def test_a_body_that_says_nothing_costs_a_look():
    """Nothing is decoded then."""
    assert not are_said({"model": msgspec.Raw(b'"o3"')})
    assert are_said({"user": msgspec.Raw(b'"u"')})
