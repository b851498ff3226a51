"""What Gemini's answers say: what was used, and what that costs, each count once."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.pricing.book import PriceBook
from merino.pricing.cost import cost
from merino.wire.gemini import GeminiReader, parse_gemini, read_gemini, usage_told

BOOK = PriceBook.load()
AT_MS = int(datetime(2026, 11, 28, tzinfo=UTC).timestamp() * 1000)
PRO, FLASH, NEW = "gemini-2.5-pro", "gemini-2.5-flash", "gemini-3.5-flash"


def say(prompt=None, out=None, cached=None, thought=None, tool=None, **more) -> dict:
    said = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": out,
        "cachedContentTokenCount": cached,
        "thoughtsTokenCount": thought,
        "toolUsePromptTokenCount": tool,
    }
    return {name: count for name, count in said.items() if count is not None} | more


def kinds(**counts: int) -> list[dict]:
    return [{"modality": name.upper(), "tokenCount": count} for name, count in counts.items()]


# Nano-dollars a token. Pro: in 1,250, read 125, out 10,000; above 200,000: 2,500, 250, 15,000.
# Flash: 300, 30, 2,500, sound in 1,000. 3.5 Flash: 1,500, 150, 9,000.
GOLDEN = [
    ("plain", PRO, say(1_000, 500), 1_250_000 + 5_000_000),
    ("thoughts beside the candidates", PRO, say(1_000, 500, thought=700),
     1_250_000 + 1_200 * 10_000),
    ("thoughts alone", PRO, say(1_000, 0, thought=700), 1_250_000 + 7_000_000),
    ("thoughts without candidates", PRO, say(1_000, thought=700), 1_250_000 + 7_000_000),
    ("cached within the prompt", PRO, say(1_000, 10, cached=900),
     100 * 1_250 + 900 * 125 + 100_000),
    ("all cached", PRO, say(1_000, 10, cached=1_000), 125_000 + 100_000),
    ("what tools brought lies beside", PRO, say(1_000, 10, tool=400), 1_400 * 1_250 + 100_000),
    ("all of it", PRO, say(1_000, 10, 600, 90, 400), 800 * 1_250 + 600 * 125 + 100 * 10_000),
    ("up to the step", PRO, say(200_000, 1), 250_000_000 + 10_000),
    ("above the step", PRO, say(200_001, 1), 200_001 * 2_500 + 15_000),
    ("above the step by what tools brought", PRO, say(199_000, 1, tool=1_001),
     200_001 * 2_500 + 15_000),
    ("above the step, cached", PRO, say(300_000, 1, cached=300_000), 300_000 * 250 + 15_000),
    ("no answer", PRO, say(1_000), 1_250_000),
    ("sound", FLASH, say(1_000, 10, promptTokensDetails=kinds(text=200, audio=800)),
     200 * 300 + 800 * 1_000 + 25_000),
    ("sound alone", FLASH, say(800, 10, promptTokensDetails=kinds(audio=800)),
     800 * 1_000 + 25_000),
    ("cached sound", FLASH, say(1_000, 10, 800, promptTokensDetails=kinds(text=200, audio=800),
                                cacheTokensDetails=kinds(audio=800)),
     200 * 300 + 800 * 30 + 25_000),
    ("half of the sound is cached", FLASH,
     say(1_000, 10, 400, promptTokensDetails=kinds(text=200, audio=800),
         cacheTokensDetails=kinds(audio=400)),
     200 * 300 + 400 * 1_000 + 400 * 30 + 25_000),
    ("cached text, new sound", FLASH,
     say(1_000, 10, 200, promptTokensDetails=kinds(text=200, audio=800),
         cacheTokensDetails=kinds(text=200)),
     200 * 30 + 800 * 1_000 + 25_000),
    ("pictures cost what text costs", FLASH,
     say(1_000, 10, promptTokensDetails=kinds(text=200, image=800)), 300_000 + 25_000),
    ("video costs what text costs", FLASH,
     say(1_000, 10, promptTokensDetails=kinds(text=200, video=800)), 300_000 + 25_000),
    ("sound that tools brought", FLASH,
     say(100, 10, tool=50, promptTokensDetails=kinds(text=100),
         toolUsePromptTokensDetails=kinds(audio=50)),
     100 * 300 + 50 * 1_000 + 25_000),
    ("a total that says more", NEW, say(1_000, 10, totalTokenCount=5_000), 1_500_000 + 90_000),
    ("cached, newer", NEW, say(1_000, 10, cached=400, thought=5), 900_000 + 60_000 + 135_000),
    ("null is nothing", NEW, say(1_000, 10, cachedContentTokenCount=None), 1_500_000 + 90_000),
    ("written as text", NEW, {"promptTokenCount": "1000", "candidatesTokenCount": "10"},
     1_500_000 + 90_000),
    ("cached is never more than the prompt", NEW, say(100, 10, cached=900), 15_000 + 90_000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "said", "expected"), [each[1:] for each in GOLDEN], ids=[each[0] for each in GOLDEN]
)
def test_what_an_answer_costs(model, said, expected) -> None:
    """Each usage by hand; streamed, the last of the repeated counts holds."""
    price = BOOK.find("gemini", model, AT_MS)
    usage = usage_told(said)
    assert usage is not None
    assert price is not None
    assert expected == cost(usage, price).account_nanos
    reader = GeminiReader()
    for metadata in (say(1, 1), said):
        part = {"content": {"parts": [{"text": "x"}]}}
        event = {"candidates": [part], "usageMetadata": metadata}
        reader.feed(f"data: {json.dumps(event)}\r\n\r\ndata".encode()[:-4])
    reader.finish()
    assert usage == reader.usage


COUNT = st.none() | st.integers(0, 10**6)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_no_usage_is_inconsistent(prompt, out, cached, thought, tool) -> None:
    """Whatever is reported, no part is more than its whole."""
    used = usage_told(say(prompt, out, cached, thought, tool))
    assert used is None or used.is_consistent()


def test_the_model_is_in_the_path() -> None:
    """The body that goes out has neither the model nor the stream in it."""
    request = parse_gemini(b'{"model":"m","stream":true,"contents":[]}')
    request.set_model("other")
    assert ("m", True, b'{"contents":[]}') == (request.model, request.stream, request.render())


@pytest.mark.parametrize(
    ("answer", "reason", "is_error"),
    [
        ({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]},
         "STOP", False),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "blocked: SAFETY", False),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, "MAX_TOKENS", False),
        ({"error": {"code": 500, "message": "oh", "status": "INTERNAL"}}, None, True),
        ({}, None, True),
    ],
)  # fmt: skip
def test_what_is_an_answer(answer, reason, is_error) -> None:
    """A refused prompt is one, without a word; nothing at all is none."""
    found = read_gemini(json.dumps(answer).encode())
    assert (reason, is_error) == (found.finish_reason, found.is_error)


def test_a_stream_ends_with_its_reason() -> None:
    """There is no last event; an error in between is one."""
    reader = GeminiReader()
    reader.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"x"}]}}]}\n\n')
    assert (True, False) == (reader.has_content, reader.is_complete)
    (event,) = reader.feed(b'data: {"error":{"code":503,"message":"overloaded"}}\n\n')
    assert "error" == event.kind
    reader.feed(b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n')
    assert reader.is_complete
