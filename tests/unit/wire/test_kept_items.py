"""Items as they are listed: each has an id, and pages meet without a gap."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.errors import InvalidCall, NotFound
from merino.wire.kept_items import list_object, listed, page_of, raw_items


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda text: {"role": "user", "content": text}, st.text(max_size=5)),
        st.builds(
            lambda text: {"type": "message", "role": "assistant", "content": text}, st.text()
        ),
        st.just({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        st.just({"type": "reasoning", "id": "rs_1", "summary": []}),
    ),
    max_size=9,
)


@given(MESSAGES, st.integers(1, 4), st.sampled_from(["asc", "desc"]))
def test_pages_together_are_the_whole_list(messages, limit, order) -> None:
    """Whatever the limit and the order, following `last_id` gives each item once."""
    items = listed([raw({**each, "id": f"i_{n}"}) for n, each in enumerate(messages)], "resp_1")
    seen: list[str] = []
    more, after = True, {}
    while more:
        page = page_of({"limit": [str(limit)], "order": [order], **after})
        found = json.loads(list_object(items, page))
        seen += [each["id"] for each in found["data"]]
        more, after = found["has_more"], {"after": [found["last_id"]]}
    expected = [f"i_{n}" for n in range(len(messages))]
    assert (expected if order == "asc" else expected[::-1]) == seen


@given(MESSAGES)
def test_every_item_has_an_id_of_its_own_that_stays(messages) -> None:
    """What came without an id gets the same one at every look, and another one in another list."""
    plain = [raw({k: v for k, v in each.items() if k != "id"}) for each in messages]
    ids = [bytes(each["id"]) for each in listed(plain, "resp_1")]
    assert len(messages) == len(set(ids))
    assert ids == [bytes(each["id"]) for each in listed(plain, "resp_1")]
    assert not set(ids) & {bytes(each["id"]) for each in listed(plain, "resp_2")}


def test_a_text_is_one_message() -> None:
    """A plain `input` is what its user said, byte for byte."""
    (item,) = listed(raw_items(msgspec.Raw(b'"h\\u00e9"')), "resp_1")
    assert b'[{"type":"input_text","text":"h\\u00e9"}]' == bytes(item["content"])
    assert [] == raw_items(None)
    assert [] == raw_items(msgspec.Raw(b"null"))


@pytest.mark.parametrize(
    "query", [{"limit": ["0"]}, {"limit": ["101"]}, {"limit": ["x"]}, {"order": ["up"]}]
)
def test_impossible_pages_are_refused(query) -> None:
    """By the name of the parameter."""
    with pytest.raises(InvalidCall) as refused:
        page_of(query)
    assert next(iter(query)) == refused.value.param


def test_a_page_after_nothing() -> None:
    """An id that is not in the list is told."""
    with pytest.raises(NotFound, match="no_such"):
        list_object(listed([raw({"id": "a"})], "r"), page_of({"after": ["no_such"]}))
