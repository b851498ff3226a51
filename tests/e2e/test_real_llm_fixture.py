"""The real model the end-to-end tests bill against: does it count as the relay's tests assume?"""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest


@pytest.fixture
def plain(real_llm) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=real_llm.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def thinking(reasoning_llm) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=reasoning_llm.base_url, api_key="none", max_retries=0) as client:
        yield client


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_reported_usage_is_what_the_model_counted(real_llm, plain):
    """The usage in an answer equals the difference of the server's own token counters."""
    before = real_llm.counters()
    answer = plain.chat.completions.create(
        model=real_llm.model, messages=question("Name a colour."), max_tokens=8
    )
    used = real_llm.counters() - before
    assert used.input_tokens == answer.usage.prompt_tokens
    assert used.output_tokens == answer.usage.completion_tokens
    assert answer.choices[0].message.content


def test_a_repeated_prompt_is_served_from_the_cache(real_llm, plain):
    """The second of two equal prompts reports cached tokens, as the counters do."""
    messages = question("Which river runs through Paris, and where does it end?")
    plain.chat.completions.create(model=real_llm.model, messages=messages, max_tokens=4)
    before = real_llm.counters()
    answer = plain.chat.completions.create(model=real_llm.model, messages=messages, max_tokens=4)
    used = real_llm.counters() - before
    assert 0 < answer.usage.prompt_tokens_details.cached_tokens
    assert used.cached_tokens == answer.usage.prompt_tokens_details.cached_tokens
    assert used.input_tokens == answer.usage.prompt_tokens


def test_a_stream_ends_with_its_usage(real_llm, plain):
    """A stream's last chunk has no choices and the usage the server counted."""
    before = real_llm.counters()
    with plain.chat.completions.create(
        model=real_llm.model,
        messages=question("Count to five."),
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    used = real_llm.counters() - before
    assert [] == chunks[-1].choices
    assert used.input_tokens == chunks[-1].usage.prompt_tokens
    assert used.output_tokens == chunks[-1].usage.completion_tokens


def test_the_thinking_model_thinks_before_it_answers(reasoning_llm, thinking):
    """Thoughts come apart from the answer, and both lie inside the counted output tokens."""
    before = reasoning_llm.counters()
    answer = thinking.chat.completions.create(
        model=reasoning_llm.model, messages=question("What is 2 + 3?"), max_tokens=40
    )
    used = reasoning_llm.counters() - before
    assert answer.choices[0].message.reasoning_content
    assert used.output_tokens == answer.usage.completion_tokens
