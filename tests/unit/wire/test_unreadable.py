"""A body that cannot be decoded: the field that is to blame is named, in little time."""

from __future__ import annotations

import json
from time import perf_counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.domain.errors import InvalidCall
from merino.wire.chat import parse_chat
from merino.wire.unreadable import NESTING_MAX, PARTS_MAX, TOKENS_MAX, Unreadable, refusal

BAD = "\x00bad\x00"
"""Stands for the bad value while the body is made; no other text is like it."""

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=".[]"), max_size=8
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts | st.sampled_from(['"', "\\", '\\"', "[{", "}]", ":,", "NaN"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@st.composite
def bad_bodies(draw: st.DrawFn) -> tuple[object, str]:
    """A body with `BAD` somewhere in it, and the path to it."""
    value: object = BAD
    path = ""
    for is_list in [*draw(st.lists(st.booleans(), max_size=8)), False]:
        if is_list:
            before = draw(st.lists(values, max_size=3))
            value = [*before, value, *draw(st.lists(values, max_size=2))]
            path = f"[{len(before)}]{path}"
        else:
            name = draw(names.filter(lambda each: each and each.isprintable()))
            others = draw(st.dictionaries(names, values, max_size=2))
            others.pop(name, None)
            place = draw(st.integers(0, len(others)))
            items = list(others.items())
            value = dict([*items[:place], (name, value), *items[place:]])
            path = f".{name}{path}"
    return value, path.removeprefix(".")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("NaN", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("nan", "nan is not JSON"),
        ("None", "Send null."),
        ("True", "Send true."),
        ("tru", "invalid character"),
        (".5", "invalid character"),
        ('"\n"', "control character 0x0a"),
        ('"\\x"', "invalid escaped character"),
        ('"\\ud83d"', "an escaped surrogate has no partner"),
        ('"\\udc00 NaN"', "an escaped surrogate has no partner"),
        ('"a\udcff"', "not valid UTF-8"),
        ("[" * 300 + "]" * 300, "nested too deeply"),
    ],
)
@settings(max_examples=examples(10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    made=bad_bodies(),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
    ascii_only=st.booleans(),
)
def test_the_path_is_that_of_the_bad_value(bad, words, made, separators, ascii_only):
    """Wherever a bad value stands, and whatever stands around it, `param` and message name it."""
    value, path = made
    text = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
    body = text.replace(json.dumps(BAD), bad).encode(errors="surrogateescape")
    with pytest.raises(InvalidCall) as caught:
        parse_chat(body)
    error = caught.value
    assert "invalid_json" == error.code
    assert words in error.message
    assert f" at '{error.param}'" in error.message
    if bad.startswith("[["):
        assert (path + "[0]" * 300).startswith(error.param.removesuffix("..."))
    else:
        assert path == error.param


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=bad_bodies(), share=st.floats(0.0, 1.0))
def test_a_body_that_ends_early_is_told_with_where(made, share):
    """Cut anywhere, it is refused; nothing but the refusal comes out."""
    body = json.dumps(made[0]).encode()
    body = body[: int(share * (len(body) - 1))]
    with pytest.raises(InvalidCall) as caught:
        parse_chat(body)
    assert "invalid_json" == caught.value.code


@given(
    junk=st.binary(max_size=40), before=st.sampled_from([b"", b'{"a":', b'{"a":[{"b":"', b"[[{"])
)
def test_nothing_but_a_refusal_comes_out(junk, before):
    """However broken a body is."""
    with pytest.raises(InvalidCall):
        parse_chat(before + junk)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b'\xef\xbb\xbf{"model":"m"}', None, "byte order mark"),
        (b'{"a":{"b\xff":1}}', "a", "not valid UTF-8"),
        (b'{"a":"NaN\n"}', "a", "control character"),
        (b'{"a":"\\NaN"}', "a", "invalid escaped character"),
        (b'{"a":[1,{"b":2,}]}', "a[1]", "trailing comma"),
        (b'{"a":1}}', None, "trailing characters"),
        (b'{"\x01\\u0001\\"":NaN}', None, "control character"),
        (b'{"\\u0001":NaN}', "\\x01", "NaN"),
        (b'{"' + b"k" * 100 + b'":NaN}', "k" * 64 + "...", "NaN"),
        (b'{"a":' * (PARTS_MAX + 1) + b"NaN", ".".join("a" * PARTS_MAX) + "...", "NaN"),
    ],
)
def test_what_is_shown_is_short_and_plain(body, param, words):
    """No control characters, no endless names; no name where there is none."""
    with pytest.raises(InvalidCall, match=words) as caught:
        parse_chat(body)
    assert param == caught.value.param
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("number", ["1e999", "-1.5E+400", "9" * 400, "1" + "0" * 4400])
@settings(max_examples=examples(10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=bad_bodies())
def test_a_number_that_is_too_large_is_named(number, made):
    """Where numbers are read, and not passed on as they came."""
    value, path = made
    body = json.dumps(value).replace(json.dumps(BAD), number + " ").encode()
    try:
        msgspec.json.decode(body)
    except Unreadable as error:
        told = refusal(body, error)
        assert path == told.param
        assert "larger than a number can be" in told.message
    else:
        assert not number.startswith(("1e", "-1.5"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b'"",' * 2_000_000 + b"NaN]}",
        b'{"a":[' + b"[]," * 2_000_000 + b"NaN]}",
        b"{" + b'"a":{},' * 1_000_000 + b'"b":NaN}',
        b'{"a":' * 1_000_000,
        b'{"a":' + b"[" * (TOKENS_MAX * 10),
        b'{"a":"' + b'\\"' * 3_000_000 + b'\n"}',
        b'{"a":"' + b"\\ud83d\\ude00" * 500_000 + b'\\ud800"}',
        b'{"a":' + b"N" * 8_000_000,
    ],
)
def test_it_takes_little_time(body):
    """Also for who wants it to take long: some MB of what is slowest to look through."""
    began = perf_counter()
    with pytest.raises(InvalidCall):
        parse_chat(body)
    assert perf_counter() - began < 2.0


def test_much_is_looked_through():
    """A long conversation with pictures, and a long list of numbers, are not too much."""
    picture = {"type": "image_url", "image_url": {"url": "data:" + "A" * 1_000_000}}
    messages: list[object] = [{"role": "user", "content": "x"}] * 10_000
    messages.append({"role": "user", "content": [picture, {"detail": BAD}]})
    body = json.dumps({"seeds": list(range(200_000)), "messages": messages})
    with pytest.raises(InvalidCall) as caught:
        parse_chat(body.replace(json.dumps(BAD), "NaN").encode())
    assert "messages[10000].content[1].detail" == caught.value.param
    assert NESTING_MAX > PARTS_MAX
