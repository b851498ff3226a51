"""How much text there is in what a model produced."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.wire.produced import loose_sizes, produces
from merino.wire.usage import parse_chat_response


@pytest.mark.parametrize(
    ("message", "sizes"),
    [
        ({"content": "Grüße"}, (7, 0, 2)),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}, (0, 2, 0)),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "QUJD"}]}, (0, 0, 0)),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "x"}]}, (0, 2, 0)),
        ({"reasoning": "hm!", "reasoning_details": [{"text": "hm!"}]}, (0, 3, 0)),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                      {"type": "text", "text": "abc"}]}, (3, 2, 0)),
        ({"content": "data:image/png;base64," + "A" * 9000}, (22, 0, 0)),
        ({"output": "abc"}, (3, 0, 0)),
        ({"output": "z" * 400, "id": "chatcmpl-1"}, (400, 0, 0)),
        ({"sealed": "Zm9vYmFy0A" * 40, "link": "https://example.org/a"}, (0, 0, 0)),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"a": "b"}}}]}, (11, 0, 0)),
        ({"images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]}, (0, 0, 0)),
    ],
)  # fmt: skip
def test_text_is_counted_once_and_files_never(message, sizes) -> None:
    """Visible text, thinking under any name once, no base64."""
    assert sizes == loose_sizes(message)
    assert produces(message)
    body = json.dumps({"choices": [{"message": message}]}).encode()
    result = parse_chat_response(body)
    assert sizes == (result.content_bytes, result.reasoning_bytes, result.wide_bytes)
    assert result.has_content


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["text", "content", "type", "thinking", "data"]), inner
            )
        ),
    ).map(lambda value: {"content": value, "reasoning_details": value})
)
def test_any_message_is_measured(message) -> None:
    """No shape raises, and nothing is negative."""
    visible, thought, wide = loose_sizes(message)
    assert 0 <= wide <= visible + thought
