"""Every vendor's way to say what was used, and that one odd member spoils no other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.usage import Usage
from merino.wire.reported_usage import (
    TOKENS_MAX,
    RawUsage,
    Unsplit,
    all_input,
    merged,
    parse_usage,
    usage_of,
)
from merino.wire.sse import StreamReader
from merino.wire.usage import parse_chat_response, parse_embeddings_response

P, C, T = "prompt_tokens", "completion_tokens", "total_tokens"
PD, CD = "prompt_tokens_details", "completion_tokens_details"


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        # Gemini: thinking is in the total alone.
        ({P: 31, C: 7, T: 538}, Usage(31, 507, reasoning_tokens=500)),
        ({P: 31, C: 0, T: 31}, Usage(31, 0)),
        ({P: 31, C: 7, T: 538, CD: {"reasoning_tokens": 120}}, Usage(31, 507, reasoning_tokens=500)),
        # A total that is too small explains nothing.
        ({P: 31, C: 7, T: 3}, Usage(31, 7)),
        # Moonshot; DeepSeek; Gemini's own name; OpenRouter.
        ({P: 900, C: 7, T: 907, "cached_tokens": 640}, Usage(900, 7, cached_tokens=640)),
        ({P: 900, C: 7, T: 907, "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 260},
         Usage(900, 7, cached_tokens=640)),
        ({C: 7, "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 260},
         Usage(900, 7, cached_tokens=640)),
        ({P: 900, C: 7, "cached_content_token_count": 640}, Usage(900, 7, cached_tokens=640)),
        ({P: 900, C: 7, T: 907, PD: {"cached_tokens": 600, "cache_write_tokens": 200}},
         Usage(900, 7, cached_tokens=600, cache_write_tokens=200)),
        # Anthropic: beside the input, where the total says so or there is none.
        ({P: 12, C: 7, T: 1019, "cache_read_input_tokens": 1000}, Usage(1012, 7, cached_tokens=1000)),
        ({"input_tokens": 12, "output_tokens": 7, "cache_read_input_tokens": 1000,
          "cache_creation_input_tokens": 50}, Usage(1062, 7, cached_tokens=1000, cache_write_tokens=50)),
        ({"input_tokens": 12, "output_tokens": 7,
          "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 3},
          "cache_creation_input_tokens": 8}, Usage(20, 7, cache_write_tokens=8)),
        # LiteLLM: inside, as the total says.
        ({P: 1012, C: 7, T: 1019, "cache_read_input_tokens": 1000}, Usage(1012, 7, cached_tokens=1000)),
        ({P: 100, C: 7, T: 107, PD: {"cache_creation_input_tokens": 60}},
         Usage(100, 7, cache_write_tokens=60)),
        # Bedrock's and Gemini's own spelling; Ollama's own.
        ({"inputTokens": 12, "outputTokens": 7, "totalTokens": 19}, Usage(12, 7)),
        ({"promptTokenCount": 12, "candidatesTokenCount": 7, "thoughtsTokenCount": 30,
          "totalTokenCount": 49}, Usage(12, 37, reasoning_tokens=30)),
        ({"prompt_eval_count": 12, "eval_count": 7}, Usage(12, 7)),
        # Zeros beside the other spelling.
        ({P: 0, C: 0, T: 0, "input_tokens": 12, "output_tokens": 7}, Usage(12, 7)),
        # Numbers as somebody's serializer writes them.
        ({P: 12.0, C: 7.0, T: 19.0}, Usage(12, 7)),
        ({P: "12", C: " 7 ", T: "19"}, Usage(12, 7)),
        ({P: 12, C: 5000, PD: [], CD: ""}, Usage(12, 5000)),
        ({P: 12, C: 5000, PD: {"cached_tokens": "9"}, CD: {"reasoning_tokens": [1]}},
         Usage(12, 5000, cached_tokens=9)),
        ({P: True, C: 5000, T: 5012}, Usage(12, 5000)),
        ({P: None, C: 5000, T: None}, Usage(0, 5000)),
        ({P: 12, C: 10**40}, Usage(12, TOKENS_MAX + 1)),
    ],
)  # fmt: skip
def test_every_vendors_words_mean_the_same(said, usage) -> None:
    """The same call has the same usage, whoever reports it, and however its numbers are written."""
    assert usage == usage_of(said)
    answer = {"choices": [{"message": {"content": "x"}}], "usage": said}
    assert usage == parse_chat_response(json.dumps(answer).encode()).usage


@pytest.mark.parametrize(
    ("said", "input_tokens"),
    [({T: 61}, 61), ({P: 0, T: 61}, 61), ({P: 61, T: 61}, 61), ({P: 61, C: 0, T: 61}, 61)],
)
def test_embeddings_have_input_alone(said, input_tokens) -> None:
    """Whatever an embeddings answer names, its total is what went in (Voyage)."""
    body = json.dumps({"data": [{"embedding": [0.5]}], "usage": said}).encode()
    assert Usage(input_tokens, 0) == parse_embeddings_response(body).usage


def test_a_total_alone_is_kept_until_the_input_is_known() -> None:
    """MiniMax told nothing but a total."""
    assert isinstance(usage_of({T: 61}), Unsplit)


counts = st.one_of(
    st.none(), st.integers(-5, 10**12), st.floats(), st.text(max_size=6), st.booleans(),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip
plain = st.integers(0, 10**6)
names = st.sampled_from(RawUsage.__struct_fields__)
parts = st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens", "cache_write_tokens"]),
    counts,
)
said = st.dictionaries(names, counts | parts)


@given(said=said)
def test_no_report_is_inconsistent(said) -> None:
    """Whatever members say: nothing is negative, no part more than its whole, no exception."""
    usage = usage_of(said)
    if usage is not None:
        assert usage.is_consistent()
        assert max(usage.input_tokens, usage.output_tokens) <= TOKENS_MAX + 1
    assert all_input(usage) is None or all_input(usage).is_consistent()


@given(prompt=plain, completion=plain, odd=counts | parts, name=names)
def test_one_odd_member_spoils_no_other(prompt, completion, odd, name) -> None:
    """Input and output that are well said are read, whatever stands beside them."""
    if name in (P, C):
        return
    usage = usage_of({P: prompt, C: completion, name: odd})
    assert usage is not None
    assert usage.output_tokens >= completion
    assert usage.input_tokens >= prompt


@given(usages=st.lists(st.builds(Usage, plain, plain), min_size=1))
def test_reports_of_a_stream_only_grow(usages) -> None:
    """No report makes less of what an earlier one said."""
    whole = None
    for usage in usages:
        before, whole = whole, merged(whole, usage)
        assert whole is not None
        for each in (before, usage):
            if each is not None:
                assert whole.output_tokens >= each.output_tokens
                assert whole.input_tokens >= each.input_tokens


@given(
    said=st.fixed_dictionaries({P: plain, C: plain}, optional={"cached_tokens": plain, T: plain})
)
def test_schema_and_loose_reading_agree(said) -> None:
    """The quick way and the slow way read the same."""
    assert usage_of(said) == parse_usage(json.dumps(said).encode())


GOOD = {"prompt_tokens": 31, "completion_tokens": 7}


@pytest.mark.parametrize(
    "beside",
    [
        {"x_groq": {"id": "req", "usage": {**GOOD, "queue_time": 0.2}}},
        {"usageMetadata": {"promptTokenCount": 31, "candidatesTokenCount": 7}},
        {"usage": None, "token_usage": GOOD},
        {"meta": {"billed_units": {"input_tokens": 31, "output_tokens": 7}}},
        {"prompt_eval_count": 31, "eval_count": 7, "eval_duration": 12},
        {"usage": {"tokens": {"input_tokens": 99, "output_tokens": 7}, "billed_units": {
            "input_tokens": 31, "output_tokens": 7}}},
        {"usage": {"prompt_tokens": "3.1e1", "completion_tokens": "7"}},
        {"usage": {"input_token_count": 31, "generated_token_count": 7}},
    ],
)  # fmt: skip
def test_usage_is_read_wherever_it_stands(beside) -> None:
    """Of a whole answer and of a stream's last event, whoever puts it where."""
    message = {"role": "assistant", "content": "hello"}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}], **beside}
    assert Usage(31, 7) == parse_chat_response(json.dumps(whole).encode()).usage
    reader = StreamReader()
    reader.feed(b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n')
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], **beside}
    reader.feed(b"data: %b\n\n" % json.dumps(last).encode())
    assert Usage(31, 7) == reader.usage


@given(outputs=st.lists(st.integers(1, 10**6), min_size=1, max_size=5), together=st.booleans())
def test_choices_that_tell_their_own_usage_are_added_up(outputs, together) -> None:
    """They share their input; told again, or in one event, it is the same (Moonshot)."""
    choices = [
        {"index": at, "delta": {}, "finish_reason": "stop", "usage": {P: 31, C: output}}
        for at, output in enumerate(outputs)
    ]
    reader = StreamReader()
    for each in [choices] if together else [[choice] for choice in [*choices, choices[0]]]:
        reader.feed(b"data: %b\n\n" % json.dumps({"choices": each}).encode())
    assert Usage(31, sum(outputs)) == reader.usage
    said = [{**choice, "message": {"content": "hi"}} for choice in choices]
    whole = parse_chat_response(json.dumps({"choices": said}).encode())
    assert Usage(31, sum(outputs)) == whole.usage


def test_geminis_own_names_lie_beside_input_and_output() -> None:
    """Thoughts are output and what tools read is input, with a total and without."""
    said = {"promptTokenCount": 31, "candidatesTokenCount": 7, "thoughtsTokenCount": 500}
    assert Usage(31, 507, reasoning_tokens=500) == usage_of(said)
    assert Usage(31, 507, reasoning_tokens=500) == usage_of({**said, "totalTokenCount": 538})
    read = {**said, "toolUsePromptTokenCount": 60}
    assert Usage(91, 507, reasoning_tokens=500) == usage_of(read)
    assert Usage(91, 507, reasoning_tokens=500) == usage_of({**read, "totalTokenCount": 598})
