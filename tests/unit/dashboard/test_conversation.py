"""A call as a conversation: every dialect, streams merged, and nothing of strangers as markup."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.dashboard.conversation import conversation_of
from merino.pages.markdown import markdown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "role", "content", "type", "text", "choices", "delta", "input",
                 "message", "tool_calls", "function", "output", "index", "image_url", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)  # fmt: skip


def told(messages) -> list[tuple]:
    return [
        (each.role, [(part.kind, part.text, part.name) for part in each.parts]) for each in messages
    ]


def test_a_chat_with_a_tool() -> None:
    """Who said what, what a tool was called with, and what it gave."""
    asked = {
        "model": "o3",
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "weather"}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Here?"},
                                         {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": '{"at":"here"}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
    }  # fmt: skip
    answer = {
        "choices": [
            {"message": {"role": "assistant", "content": "Rain.", "reasoning_content": "Hm"}}
        ]
    }
    found = conversation_of(json.dumps(asked), json.dumps(answer))
    assert [
        ("system", [("text", "Be brief.", "")]),
        ("user", [("text", "Here?", ""), ("image", "data:image/png;base64,AA", "")]),
        ("assistant", [("call", '{\n  "at": "here"\n}', "weather")]),
        ("tool", [("result", "rain", "c1")]),
    ] == told(found.asked)
    assert [("assistant", [("reasoning", "Hm", ""), ("text", "Rain.", "")])] == told(found.answered)
    assert (["weather"], {"temperature": "0.5"}) == (found.tools, found.options)


def test_a_stream_is_merged() -> None:
    """Texts, reasoning and a tool's arguments come in pieces and are shown whole."""
    deltas = [
        {"role": "assistant", "reasoning_content": "Let "},
        {"reasoning_content": "me see."},
        {"content": "It "},
        {"content": "rains."},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
    ]
    text = ": x-merino-cost: 1\n\n" + "".join(
        f"data: {json.dumps({'choices': [{'index': 0, 'delta': each}]})}\n\n" for each in deltas
    )
    found = conversation_of("{}", text + "data: [DONE]\n\n")
    assert found.is_stream
    assert [
        (
            "assistant",
            [
                ("reasoning", "Let me see.", ""),
                ("text", "It rains.", ""),
                ("call", '{\n  "a": 1\n}', "f"),
            ],
        )
    ] == told(found.answered)


def test_a_response_and_its_stream() -> None:
    """Items of the other dialect; its stream ends with the whole."""
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Short."}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes."}],
        },
    ]
    wanted = [
        ("assistant", [("reasoning", "Short.", "")]),
        ("assistant", [("call", "{}", "f")]),
        ("assistant", [("text", "Yes.", "")]),
    ]
    asked = json.dumps({"instructions": "Be brief.", "input": "Is it?"})
    plain = conversation_of(asked, json.dumps({"output": output}))
    assert [("system", [("text", "Be brief.", "")]), ("user", [("text", "Is it?", "")])] == told(
        plain.asked
    )
    assert wanted == told(plain.answered)
    event = {"type": "response.completed", "response": {"output": output}}
    assert wanted == told(
        conversation_of(asked, f"event: x\ndata: {json.dumps(event)}\n\n").answered
    )


def test_an_error_is_told() -> None:
    """As what was answered."""
    found = conversation_of("{}", json.dumps({"error": {"message": "No such model."}}))
    assert [("error", [("text", "No such model.", "")])] == told(found.answered)


@given(JSON, JSON)
def test_nothing_breaks_it(asked, answered) -> None:
    """Whatever was sent and came back is shown in some way."""
    conversation_of(json.dumps(asked), json.dumps(answered))
    conversation_of(json.dumps(asked), f"data: {json.dumps(answered)}\n\ndata: {{\n\n")


@pytest.mark.parametrize("text", ["", "not json", "[1]", "null", "data: x"])
def test_what_is_no_conversation_stays_text(text) -> None:
    """Rather than being lost."""
    found = conversation_of(text, text)
    assert bool(text.strip()) == bool(found.answered)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,AAAA)",
        "![x](https://example.org/track.png)",
        "<a href='javascript:alert(1)'>x</a>",
        "| a | b |\n|:-:|--:|\n| 1 | 2 |",
        "```html\n<b>\n```",
    ],
)
def test_markdown_of_strangers_is_harmless(text) -> None:
    """No element, address or style of theirs, and nothing that is fetched."""
    shown = str(markdown(text))
    for bad in ("<script", "<img", "onerror=alert(1)>", 'href="javascript', 'href="data', "style="):
        assert bad not in shown.replace("&lt;img src=x onerror=alert(1)&gt;", "")


def test_markdown_is_shown_as_it_is_meant() -> None:
    """Emphasis, lists, code, tables; a link says that we do not vouch for it."""
    shown = str(markdown("**a** `b`\n\n- c\n\n[d](https://example.org)"))
    for part in ("<strong>a</strong>", "<code>b</code>", "<li>c</li>", 'rel="noreferrer nofollow"'):
        assert part in shown
