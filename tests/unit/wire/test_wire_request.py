"""Reading and writing request bodies."""

import gzip
import itertools
import json
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.errors import InvalidCall
from merino.wire import fields as fields_module
from merino.wire.chat import OTHER_LIMIT_NAMES, parse_chat
from merino.wire.embeddings import parse_embeddings
from merino.wire.endpoints import LIMIT_NAMES
from merino.wire.unreadable import NESTING_MAX

OK = {"model": "o3", "messages": [{"role": "user", "content": "hi"}]}

# What a body may hold: no lone surrogates, which are refused.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
known = {
    "model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens",
    "reasoning_effort", "service_tier", "best_of", *OTHER_LIMIT_NAMES,
}  # fmt: skip


def chat(**fields: object) -> bytes:
    return json.dumps({**OK, **fields}).encode()


def refusal(body: bytes, parse=parse_chat) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        parse(body)
    return caught.value


@given(
    extra=st.dictionaries(texts.filter(lambda name: name not in known), values, max_size=5),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
    ascii_only=st.booleans(),
)
def test_rendering_what_was_parsed_means_the_same(extra, separators, ascii_only):
    """A body that is parsed and rendered again has the same meaning, unknown fields included."""
    whole = {**OK, **extra}
    body = json.dumps(whole, separators=separators, ensure_ascii=ascii_only).encode()
    assert whole == json.loads(parse_chat(body).render())


def test_values_are_kept_byte_for_byte():
    """Spelling inside of values survives: spaces, escapes, and the digits of numbers."""
    body = b'{"model":"o3","messages":[ {"role" : "\\u0075ser"} ],"seed":1.50e+01,"x":12345678901234567890123}'
    rendered = parse_chat(body).render()
    assert body == rendered


def test_what_the_relay_must_know_is_decoded():
    """Every field that steers the relay is read with its type."""
    body = chat(
        stream=True, stream_options={"include_usage": True}, n=3, max_tokens=5,
        max_completion_tokens=7, reasoning_effort="low", service_tier="flex",
    )  # fmt: skip
    request = parse_chat(body)
    assert ("chat/completions", "o3", True, True, 3, 5, 7, "low", "flex") == (
        request.endpoint.name, request.model, request.stream, request.include_usage, request.n,
        request.max_tokens, request.max_completion_tokens, request.reasoning_effort,
        request.service_tier,
    )  # fmt: skip
    assert 7 == request.output_tokens_max


def test_null_means_left_out():
    """Optional fields may be null, as some clients send them."""
    request = parse_chat(
        chat(stream=None, stream_options=None, n=None, max_tokens=None, service_tier=None)
    )
    assert (False, False, 1, None, None) == (
        request.stream,
        request.include_usage,
        request.n,
        request.output_tokens_max,
        request.service_tier,
    )


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"model": None}, "model", "missing_required_parameter", "you must provide a model parameter"),
        ({"model": ""}, "model", "missing_required_parameter", "you must provide a model parameter"),
        ({"model": 3}, "model", "invalid_type", "expected a string, but got an integer"),
        ({"messages": {}}, "messages", "invalid_type", "expected an array, but got an object"),
        ({"messages": []}, "messages", "empty_array", "Expected an array with minimum length 1"),
        ({"messages": None}, "messages", "invalid_type", "but got null"),
        (
            {"stream": "yes"}, "stream", "invalid_type",
            "Invalid type for 'stream': expected a boolean, but got a string instead.",
        ),
        ({"stream_options": []}, "stream_options", "invalid_type", "expected an object"),
        (
            {"stream_options": {"include_usage": 1}}, "stream_options.include_usage",
            "invalid_type", "expected a boolean, but got an integer",
        ),
        ({"n": 0}, "n", "integer_below_min_value", "Expected a value >= 1, but got 0"),
        ({"n": 129}, "n", "integer_above_max_value", "Expected a value <= 128, but got 129"),
        ({"n": True}, "n", "invalid_type", "expected an integer, but got a boolean"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value", "but got -1"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", "but got 0"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type", "but got a decimal number"),
        ({"max_completion_tokens": 10**18}, "max_completion_tokens", "integer_above_max_value", "<="),
        ({"max_completion_tokens": "5"}, "max_completion_tokens", "invalid_type", "a string"),
        ({"reasoning_effort": 1}, "reasoning_effort", "invalid_type", "expected a string"),
        ({"service_tier": []}, "service_tier", "invalid_type", "but got an array"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_in_openais_words(fields, param, code, words):
    """A wrong value is refused with OpenAI's wording, the field in `param` and OpenAI's code."""
    error = refusal(chat(**fields))
    assert (param, code) == (error.param, error.code)
    assert words in error.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "ends too early (byte 1)"),
        (b"[1]", "it is an array"),
        (b"null", "it is null"),
        (b'"x"', "it is a string"),
        (b'{"model":NaN}', "byte 9"),
        (b'{"model":Infinity}', "byte 9"),
        (b'{"model":-Infinity}', "not valid JSON"),
        (b'{"model":"o3",}', "byte 14"),
        (b"{'model':1}", "byte 1"),
        (b'{"model":"o3"}x', "trailing characters (byte 1"),
        (b'\xef\xbb\xbf{"model":"o3"}', "byte 0"),
        (b'{"model":"\xff"}', "byte 0xff at position 10"),
        (b'{"\xff":1}', "not valid UTF-8"),
        (gzip.compress(b"{}", mtime=0), "without Content-Encoding"),
        (b'{"model":"\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"model":"\\ud800"}', "escaped surrogate has no partner"),
        (b'{"model":"\\udc00x"}', "surrogate"),
        (b'{"model":"a\x01"}', "control character 0x01"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' + b"[" * 100_000, "not valid JSON|nested too deeply"),
        (b'{"a":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused_with_its_place(body, words):
    """Whatever is not a JSON object is refused, never with another exception, and says where."""
    error = refusal(body)
    assert "invalid_json" == error.code
    assert any(word in error.message for word in words.split("|")), error.message


def test_missing_fields_are_named():
    """A body without messages or input names what is missing."""
    assert "messages" == refusal(b'{"model":"o3"}').param
    assert "input" == refusal(b'{"model":"e"}', parse_embeddings).param
    assert "model" == refusal(b"{}").param


@pytest.mark.parametrize("levels", [NESTING_MAX - 1, NESTING_MAX])
def test_nesting_is_measured_exactly(levels):
    """The limit counts levels, not brackets: brackets in strings and neighbours do not add up."""
    text = json.dumps('[{"\\' * 300)
    inner = "[" * (levels - 1) + text + "]" * (levels - 1)
    body = f'{{"model":"o3","messages":[1],"x":{inner},"y":[{"[]," * 300}{{}}]}}'.encode()
    assert "o3" == parse_chat(body).model
    deeper = body.replace(inner.encode(), b"[[" + inner.encode() + b"]]")
    assert "nested too deeply" in refusal(deeper).message


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"model":"a","messages":[1],"model":"b"}', "model"),
        (b'{"model":"a","messages":[1],"\\u006dodel":"b"}', "model"),
        (b'{ "model" : "a", "messages" : [1], "x" : 1, "x" : 1 }', "x"),
        (b'{"model":"a","":1,"messages":[1],"":1}', ""),
        ('{"model":"a","messages":[1],"ä":1,"\\u00e4":2}'.encode(), "ä"),
    ],
)
def test_a_duplicated_key_is_refused_however_it_is_spelled(body, key):
    """Two readers of a duplicated key could take different values, so it is refused by name."""
    error = refusal(body)
    assert (key, "duplicated_key") == (error.param, error.code)


@given(
    names=st.lists(st.sampled_from("abcde"), min_size=1, max_size=6),
    space=st.sampled_from(["", " ", "  \n"]),
    escaped=st.booleans(),
)
def test_duplicates_are_found_exactly(names, space, escaped):
    """A body is refused for duplicates if and only if a top-level key occurs twice."""
    pairs = [
        (f'"\\u{ord(name):04x}"' if escaped and i % 2 else f'"{name}"') + f"{space}:{space}{i}"
        for i, name in enumerate(names)
    ]
    body = '{"model":"m","messages":[{"a":1,"b":2}],' + f"{space},{space}".join(pairs) + "}"
    if len(set(names)) == len(names):
        assert "m" == parse_chat(body.encode()).model
    else:
        assert "duplicated_key" == refusal(body.encode()).code


@given(st.binary(max_size=60))
def test_no_body_escapes_the_refusal(junk):
    """Arbitrary bytes either parse or are refused as an invalid call; nothing else is raised."""
    for body in (
        junk,
        b'{"model":' + junk + b"}",
        b'{"model":"a","messages":[1],"n":' + junk + b"}",
    ):
        try:
            parse_chat(body)
        except InvalidCall as error:
            assert error.message


def test_a_limit_keeps_the_callers_spelling():
    """Lowering the output limit edits the field the caller used, and says so."""
    request = parse_chat(chat(max_tokens=900))
    request.set_output_tokens_max(100, reason="balance")
    assert 100 == json.loads(request.render())["max_tokens"]
    assert "max_completion_tokens" not in json.loads(request.render())
    assert ("max_tokens=100 (balance)",) == request.adjusted


def test_a_limit_nobody_set_becomes_max_completion_tokens():
    """Without a limit of the caller's the newer name is used."""
    request = parse_chat(chat())
    request.set_output_tokens_max(100, reason="balance")
    assert 100 == request.output_tokens_max
    assert 100 == json.loads(request.render())["max_completion_tokens"]


def test_both_limits_are_lowered():
    """Where a caller sent both names, neither may exceed the new limit."""
    request = parse_chat(chat(max_tokens=900, max_completion_tokens=800))
    request.set_output_tokens_max(100, reason="balance")
    body = json.loads(request.render())
    assert (100, 100) == (body["max_tokens"], body["max_completion_tokens"])


def test_an_equal_limit_changes_nothing():
    """Setting the limit that is already there is no adjustment."""
    request = parse_chat(chat(max_tokens=100))
    request.set_output_tokens_max(100, reason="balance")
    assert () == request.adjusted


@given(
    newer=st.none() | st.integers(1, 10**6),
    older=st.none() | st.integers(1, 10**6),
    others=st.dictionaries(
        st.sampled_from(["n_predict", "max_new_tokens", "max_output_tokens"]),
        st.integers(1, 10**6),
    ),
    held=st.integers(1, 10**6),
    names=st.lists(st.sampled_from([*itertools.permutations(LIMIT_NAMES, 1), LIMIT_NAMES, ()])),
)
def test_no_limit_is_sent_above_what_is_held(newer, older, others, held, names):
    """Under whatever names limits come and are sent, none exceeds what is held, and the largest of
    them is what a call asks for."""
    request = parse_chat(chat(max_tokens=older, max_completion_tokens=newer, **others))
    given = [each for each in (newer, older, *others.values()) if each is not None]
    assert (max(given) if given else None) == request.output_tokens_max
    request.set_output_tokens_max(held, reason="balance")
    for each in names:
        request.name_limits(each)
        body = json.loads(request.render())
        assert set(each) == {name for name in LIMIT_NAMES if body.get(name) is not None}
        limits = [body[name] for name in (*each, *others)]
        assert all(limit <= held for limit in limits)


@pytest.mark.parametrize("value", [-1, 0, 1.5, "many", None, 10**30])
def test_a_limit_that_is_none_is_left_out(value):
    """A server's own name for the limit with a value that is no limit is not passed on: nobody
    could say what the call may cost."""
    request = parse_chat(chat(max_tokens=5, n_predict=value))
    assert "n_predict" not in json.loads(request.render())
    assert ("n_predict removed",) == request.adjusted
    assert 5 == request.output_tokens_max


def test_answers_that_nobody_gets_are_paid_for():
    """`best_of` makes more answers than it returns, and all of them are billed."""
    assert 7 == parse_chat(chat(n=2, best_of=7)).n
    assert 3 == parse_chat(chat(n=3, best_of=1)).n


@pytest.mark.parametrize(
    ("given_options", "sent"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
        ({"include_usage": False, "x": [1]}, {"include_usage": True, "x": [1]}),
        ({"include_usage": True}, {"include_usage": True}),
    ],
)
def test_usage_is_always_asked_for(given_options, sent):
    """The upstream is asked for usage, other options stay, and what the caller wanted is known."""
    request = parse_chat(chat(stream=True, stream_options=given_options))
    wanted = request.include_usage
    request.request_usage()
    assert sent == json.loads(request.render())["stream_options"]
    assert wanted == request.include_usage == bool((given_options or {}).get("include_usage"))


def test_the_model_is_replaced_for_the_upstream_only():
    """The upstream sees its own name of the model; the request remembers the caller's."""
    request = parse_chat(chat())
    request.set_model('vendor/"o3"')
    assert ("o3", 'vendor/"o3"') == (request.model, json.loads(request.render())["model"])


@pytest.mark.parametrize("value", ["text", ["a"], [1, 2], [[1], [2]]])
def test_embeddings_take_text_and_tokens(value):
    """Every input form of the embeddings API is accepted untouched."""
    body = json.dumps({"model": "e", "input": value}).encode()
    request = parse_embeddings(body)
    assert ("embeddings", value) == (
        request.endpoint.name,
        msgspec.json.decode(request.fields["input"]),
    )


@pytest.mark.parametrize(
    ("value", "code"), [("", "invalid_value"), ([], "empty_array"), (3, "invalid_type")]
)
def test_embeddings_refuse_empty_input(value, code):
    """Input with nothing to embed is refused by name."""
    error = refusal(json.dumps({"model": "e", "input": value}).encode(), parse_embeddings)
    assert ("input", code) == (error.param, error.code)


PIECES = (b'"\\\\"', b'"a\\"b"', b'"[{"', b"{}", b"[]", b"7", b'{"k":[]}', b"null", b'"\\\\\\""')


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(0, 2))
def test_a_body_is_refused_by_the_parts_it_has(pieces, room) -> None:
    """Strings, arrays and objects count, and nothing that only looks like one inside a string."""

    def count(value: object) -> int:
        if isinstance(value, list):
            return 1 + sum(map(count, value))
        if isinstance(value, dict):
            return 1 + sum(1 + count(each) for each in value.values())
        return int(isinstance(value, str))

    body = b'{"model":"m","messages":[%b]}' % b",".join(pieces)
    parts = count(json.loads(body))
    brackets = body.count(b"[") + body.count(b"{")
    with patch.object(fields_module, "PARTS_MAX", parts - room):
        if room:
            with pytest.raises(InvalidCall, match="strings, arrays and objects"):
                fields_module._check_parts(body, brackets)
        else:
            fields_module._check_parts(body, brackets)


@pytest.mark.parametrize("filler", [b'"a":0,', b'"a":{},', b'"\\\\":[0],'])
def test_a_large_body_of_small_parts_is_refused_before_it_is_read(filler) -> None:
    """Reading it would keep the relay from everybody else for seconds."""
    body = b'{"model":"m","messages":[1],%b"b":0}' % (filler * 300_000)
    with pytest.raises(InvalidCall, match="Send fewer at once") as caught:
        parse_chat(body)
    assert "too_many_parts" == caught.value.code


@pytest.mark.parametrize("value", ["1", "true", "null", "-0.5"])
@pytest.mark.parametrize(("count", "is_text", "is_refused"), [(9, 0, 0), (12, 0, 1), (12, 1, 0)])
def test_values_are_counted_but_those_in_texts(value, count, is_text, is_refused) -> None:
    """Millions of numbers take as long as thousands of strings; commas of a text are none."""
    values = ",".join([value] * count)
    more = json.dumps(values) if is_text else f"[{values}]"
    body = f'{{"model":"a","messages":[{{"role":"user","content":"hi"}}],"x":{more}}}'.encode()
    with (
        patch.object(fields_module, "VALUES_MAX", 11),
        patch.object(fields_module, "MANY_PARTS_BYTES", 0),
    ):
        if not is_refused:
            assert parse_chat(body).model == "a"
            return
        with pytest.raises(InvalidCall, match="11 values") as caught:
            parse_chat(body)
    assert "too_many_parts" == caught.value.code
