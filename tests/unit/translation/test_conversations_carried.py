"""Turns, tools, results and media on their way to the other family."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.translation.table import TRANSLATIONS, Made
from merino.translation.tool_names import NAME_MAX, ToolNames
from merino.translation.unwrapping import Unwrapping
from merino.wire.chat import parse_chat
from merino.wire.responses import parse_responses

MADE = Made("req_1", 1)


def messages(items: list[Any], **fields: Any) -> list[dict[str, Any]]:
    request = parse_responses(json.dumps({"model": "m", "input": items, **fields}).encode())
    carried = TRANSLATIONS["responses", "chat/completions"].carry(request, MADE)
    return json.loads(carried.body)["messages"]


def items(history: list[Any], **fields: Any) -> list[dict[str, Any]]:
    request = parse_chat(json.dumps({"model": "m", "messages": history, **fields}).encode())
    carried = TRANSLATIONS["chat/completions", "responses"].carry(request, MADE)
    return json.loads(carried.body)["input"]


def call(number: int, **members: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": f"c{number}",
        "name": "f",
        "arguments": "{}",
        **members,
    }


def result(number: int, output: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": output}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def thought(text: str) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": "r",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


def roles(found: list[dict[str, Any]]) -> list[str]:
    return [
        each["role"] + "+" * len(each.get("tool_calls", [])) + each.get("tool_call_id", "")
        for each in found
    ]


@pytest.mark.parametrize(
    ("given_items", "expected"),
    [
        ([user("a"), said("b"), user("c")], ["user", "assistant", "user"]),
        ([user("a"), call(1), result(1)], ["user", "assistant+", "toolc1"]),
        ([user("a"), said("b"), call(1), result(1)], ["user", "assistant+", "toolc1"]),
        ([user("a"), call(1), call(2), result(2), result(1)], ["user", "assistant++", "toolc1", "toolc2"]),
        ([user("a"), call(1), thought("x"), call(2), result(1), result(2)], ["user", "assistant++", "toolc1", "toolc2"]),
        ([user("a"), call(1), result(1), call(2), result(2)], ["user", "assistant+", "toolc1", "assistant+", "toolc2"]),
        ([user("a"), call(1), user("b"), result(1)], ["user", "assistant+", "toolc1", "user"]),
        ([user("a"), said("b"), said("c"), call(1), result(1)], ["user", "assistant", "assistant+", "toolc1"]),
        ([user("a"), thought("x")], ["user"]),
        ([user("a"), result(7)], ["user", "toolc7"]),
    ],
)  # fmt: skip
def test_results_stand_behind_the_message_that_called(
    given_items: list[Any], expected: list[str]
) -> None:
    """Calls made at once are one message, and their results follow it in their order, wherever the
    items stood."""
    assert expected == roles(messages(given_items))


def test_first_instructions_are_one_system_message() -> None:
    """Models whose template takes one system message get one; later ones stay where they are."""
    found = messages(
        [{"role": "developer", "content": "b"}, user("x"), {"role": "system", "content": "c"}],
        instructions="a",
    )
    assert [("system", "a\n\nb"), ("user", "x"), ("system", "c")] == [
        (each["role"], each["content"]) for each in found
    ]


def test_thinking_goes_back_within_the_turn_it_was_for() -> None:
    """Thinking of earlier turns stays out; that of the current tool calls goes back, as DeepSeek
    demands."""
    found = messages(
        [user("a"), thought("old"), said("b"), user("c"), thought("new"), call(1), result(1)]
    )
    assert [None, None, None, "new", None] == [each.get("reasoning_content") for each in found]


def test_a_summary_stands_for_thinking_unless_its_issuer_sealed_it() -> None:
    """What was shown as a summary is sent back; a foreign vendor's summary is not."""
    summary = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}]}
    for sealed, expected in ((None, "s"), ("gAAA", None)):
        found = messages([user("a"), {**summary, "encrypted_content": sealed}, call(1), result(1)])
        assert expected == found[1].get("reasoning_content")


def test_pictures_that_a_tool_returned_follow_its_result() -> None:
    """A chat's result is text; the picture comes in the next message, with the call it belongs to."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "high"}
    found = messages(
        [
            user("a"),
            call(1),
            call(2),
            result(1, [{"type": "input_text", "text": "t"}, picture]),
            result(2),
        ]
    )
    assert ["user", "assistant++", "toolc1", "toolc2", "user"] == roles(found)
    assert "t" == found[2]["content"]
    assert "c1" in found[4]["content"][0]["text"]
    assert {"url": "data:image/png;base64,AA", "detail": "high"} == found[4]["content"][1][
        "image_url"
    ]


def test_each_kind_of_content_has_its_part() -> None:
    """Text, pictures, files and sound keep their members."""
    content = [
        {"type": "input_text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "input_image", "image_url": "http://x/y", "detail": "low"},
        {"type": "input_file", "file_data": "data:;base64,AA", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
    ]
    expected = [
        {"type": "text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "image_url", "image_url": {"url": "http://x/y", "detail": "low"}},
        {"type": "file", "file": {"file_data": "data:;base64,AA", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
    ]
    found = messages([{"role": "user", "content": content}])
    assert expected == found[0]["content"]
    assert content == items(found)[0]["content"]


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("user"), st.text(min_size=1)),
            st.tuples(st.just("assistant"), st.text(min_size=1)),
            st.tuples(st.just("calls"), st.integers(1, 3)),
        ),
        max_size=6,
    )
)
def test_a_chat_comes_back_as_it_was(turns: list[tuple[str, Any]]) -> None:
    """Messages carried to items and back are the same messages."""
    history: list[dict[str, Any]] = [user("start")]
    number = 0
    for kind, value in turns:
        if kind == "calls":
            ids = [f"c{number + at}" for at in range(value)]
            number += value
            calls = [
                {"id": each, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
                for each in ids
            ]
            if history[-1]["role"] == "assistant":  # its text and its calls are one message
                history[-1]["tool_calls"] = calls
            else:
                history.append({"role": "assistant", "content": None, "tool_calls": calls})
            history += [{"role": "tool", "tool_call_id": each, "content": each} for each in ids]
            history.append(user("next"))
        else:
            history.append({"role": kind, "content": value})
    assert history == messages(items(history))


# -- tools ----------------------------------------------------------------------------------------


@settings(max_examples=examples(100))
@given(
    st.lists(
        st.tuples(st.none() | st.text(max_size=40), st.text(min_size=1, max_size=60)), unique=True
    )
)
def test_a_tools_name_is_found_again(tools: list[tuple[str | None, str]]) -> None:
    """Each tool of a namespace has a name of its own that a chat takes, which leads back to it."""
    names = ToolNames()
    ordered = sorted(tools, key=lambda tool: tool[0] is not None)
    flat = {tool: names.flat(*tool) for tool in ordered}
    assert len(set(flat.values())) == len(tools)
    for (namespace, name), said_name in flat.items():
        meant = names.meant(said_name)
        assert (namespace, name) == (meant.namespace, meant.name)
        if namespace is not None:
            assert len(said_name) <= NAME_MAX
            assert said_name.isascii()


@settings(max_examples=examples(100))
@given(st.text(), st.booleans(), st.lists(st.integers(1, 5), min_size=1))
def test_a_custom_tools_text_comes_out_as_it_arrives(
    text: str, ascii_only: bool, sizes: list[int]
) -> None:
    """However the arguments are cut, the pieces joined are the text that the model wrote."""
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only)
    unwrapping = Unwrapping()
    given_pieces: list[str] = []
    at = turn = 0
    while at < len(arguments):
        size = sizes[turn % len(sizes)]
        given_pieces.append(unwrapping.feed(arguments[at : at + size]))
        at, turn = at + size, turn + 1
    given_pieces.append(unwrapping.finish())
    assert text == "".join(given_pieces) == unwrapping.whole


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"patch": "x"}', "x"),
        ('{"a": 1, "input": "y"}', "y"),
        ('"z"', "z"),
        ('{"input": "a\nb"}', "a\nb"),
        ('{"input": "cut', "cut"),
        ("", ""),
    ],
)
def test_a_model_that_answers_otherwise_is_understood(arguments: str, expected: str) -> None:
    """Bare text, another member's name or an end that is missing lose nothing."""
    unwrapping = Unwrapping()
    assert expected == unwrapping.feed(arguments) + unwrapping.finish()


def test_a_choice_among_several_tools_is_a_shorter_list() -> None:
    """Servers that know no `allowed_tools` get only those, and the caller is told."""
    tools = [{"type": "function", "name": name, "parameters": {}} for name in ("a", "b", "c")]
    only = [{"type": "function", "name": name} for name in ("a", "c")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": only}
    body = {"model": "m", "input": "hi", "tools": tools, "tool_choice": choice}
    carried = TRANSLATIONS["responses", "chat/completions"].carry(
        parse_responses(json.dumps(body).encode()), MADE
    )
    found = json.loads(carried.body)
    assert ["a", "c"] == [tool["function"]["name"] for tool in found["tools"]]
    assert "required" == found["tool_choice"]
    assert ("tools limited to tool_choice.tools",) == carried.told
