"""What a message used, and what that costs: every count once, at the rate of its kind and model."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.pricing.book import PriceBook
from merino.pricing.cost import cost_of_all
from merino.wire.message_events import MessageReader
from merino.wire.message_object import read_message
from merino.wire.message_usage import overlaid, tier_of, usage_told

BOOK = PriceBook.load()
AT_MS = int(datetime(2026, 11, 28, tzinfo=UTC).timestamp() * 1000)
OPUS, SONNET, HAIKU = "claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5"


def say(in_=0, out=0, read=None, write=None, w5=None, w1=None, **more) -> dict:
    said = {"input_tokens": in_, "output_tokens": out, **more}
    if read is not None:
        said["cache_read_input_tokens"] = read
    if write is not None:
        said["cache_creation_input_tokens"] = write
    if w5 is not None or w1 is not None:
        said["cache_creation"] = {
            "ephemeral_5m_input_tokens": w5 or 0,
            "ephemeral_1h_input_tokens": w1 or 0,
        }
    return said


def rounds(*each: dict) -> list[dict]:
    return [{"type": "message", **one} for one in each]


def nanos(model: str, said: dict) -> int:
    body = {"type": "message", "content": [{"type": "text", "text": "x"}], "usage": said}
    answer = read_message(json.dumps(body).encode())

    def price_of(name: str):
        return BOOK.find("anthropic", name, AT_MS, answer.service_tier)

    return cost_of_all(answer.usage, price_of(model), price_of).account_nanos


# Nano-dollars a token: Opus 5 in 5,000, out 25,000, read 500, write 6,250 (an hour: 10,000).
# Sonnet 5: 2,000, 10,000, 200, 2,500 (4,000). Haiku 4.5: 1,000, 5,000, 100, 1,250 (2,000).
# Sonnet 4.5 up to 200,000: 3,000, 15,000, 300, 3,750 (6,000); above: 6,000, 22,500, 600, 7,500
# (12,000). A search: 10,000,000.
SEARCHES = {"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 4}}
ADVICE = {"type": "advisor_message", "model": HAIKU, **say(1_000, 200)}
GOLDEN = [
    ("plain", OPUS, say(1_000, 500), 1_000 * 5_000 + 500 * 25_000),
    ("read beside input", OPUS, say(10, 5, read=90_000), 50_000 + 45_000_000 + 125_000),
    ("written beside input", OPUS, say(10, 5, write=1_000), 50_000 + 6_250_000 + 125_000),
    ("all five minutes", OPUS, say(0, 1, write=800, w5=800), 800 * 6_250 + 25_000),
    ("all an hour", OPUS, say(0, 1, write=800, w1=800), 800 * 10_000 + 25_000),
    ("both lives", OPUS, say(7, 3, write=1_000, w5=400, w1=600),
     35_000 + 400 * 6_250 + 600 * 10_000 + 75_000),
    ("lives without their sum", OPUS, say(7, 3, w5=400, w1=600),
     35_000 + 400 * 6_250 + 600 * 10_000 + 75_000),
    ("the split covers the first round only", OPUS, say(0, 0, write=1_000, w5=100, w1=200),
     200 * 10_000 + 800 * 6_250),
    ("read, written and plain", SONNET, say(50, 20, read=30_000, write=4_000, w5=4_000),
     100_000 + 6_000_000 + 10_000_000 + 200_000),
    ("thinking lies within", OPUS,
     say(100, 900, output_tokens_details={"thinking_tokens": 800}), 500_000 + 22_500_000),
    ("searches", SONNET, say(100, 10, **SEARCHES), 200_000 + 100_000 + 30_000_000),
    ("fetches are free", SONNET,
     say(100, 10, server_tool_use={"web_search_requests": 0, "web_fetch_requests": 9}), 300_000),
    ("nothing was cached", HAIKU, say(100, 10, read=0, write=0, w5=0, w1=0), 150_000),
    ("null is nothing", HAIKU, say(100, 10, cache_creation=None, server_tool_use=None), 150_000),
    ("a cache written ahead has no output", OPUS, say(3, 0, write=2_000, w1=2_000),
     15_000 + 20_000_000),
    ("up to the step", "claude-sonnet-4-5", say(200_000, 10), 600_000_000 + 150_000),
    ("beyond the step by what was read", "claude-sonnet-4-5", say(1, 10, read=200_000),
     6_000 + 120_000_000 + 225_000),
    ("beyond the step by what was written", "claude-sonnet-4-5",
     say(0, 10, write=200_001, w1=200_001), 200_001 * 12_000 + 225_000),
    ("a batch costs half", OPUS, say(1_000, 500, service_tier="batch"),
     1_000 * 2_500 + 500 * 12_500),
    ("in the us", OPUS, say(1_000, 500, inference_geo="us"), 1_000 * 5_500 + 500 * 27_500),
    ("anywhere", OPUS, say(1_000, 500, inference_geo="global", service_tier="standard"),
     17_500_000),
    ("fast", OPUS, say(1_000, 500, speed="fast"), 1_000 * 10_000 + 500 * 50_000),
    ("fast, in the us, for an hour", OPUS,
     say(0, 0, write=100, w1=100, speed="fast", inference_geo="us"), 100 * 22_000),
    ("the priority tier is a contract", OPUS, say(1_000, 500, service_tier="priority"), 17_500_000),
    ("rounds that come to the sums", OPUS,
     say(300, 30, iterations=rounds(say(100, 10), say(200, 20))), 1_500_000 + 750_000),
    ("a compaction lies outside", OPUS,
     say(300, 30, iterations=[{"type": "compaction", **say(150_000, 900)}, *rounds(say(300, 30))]),
     150_300 * 5_000 + 930 * 25_000),
    ("advice is another model's", OPUS,
     say(300, 30, iterations=[*rounds(say(300, 30)), ADVICE]),
     1_500_000 + 750_000 + 1_000_000 + 1_000_000),
    ("a fallback answered after the first declined", OPUS,
     say(300, 40, iterations=[
         *rounds({**say(300, 0), "model": OPUS}),
         {"type": "fallback_message", "model": SONNET, **say(300, 40)}]),
     1_500_000 + 600_000 + 400_000),
    ("a fallback's earlier rounds are its own", OPUS,
     say(900, 70, iterations=[
         *rounds({**say(300, 0), "model": OPUS}, {**say(300, 30), "model": SONNET}),
         {"type": "fallback_message", "model": SONNET, **say(300, 40)}]),
     1_500_000 + 1_200_000 + 700_000),
    ("an hour's cache of a round", OPUS,
     say(10, 5, write=400, iterations=rounds(say(10, 5, write=400, w5=100, w1=300))),
     50_000 + 125_000 + 100 * 6_250 + 300 * 10_000),
    ("rounds that leave something out", OPUS,
     say(300, 30, iterations=rounds(say(100, 10))), 1_500_000 + 750_000),
    ("advice of a model without a price", OPUS,
     say(0, 0, iterations=[{"type": "advisor_message", "model": "new", **say(10, 1)}]),
     50_000 + 25_000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "said", "expected"), [each[1:] for each in GOLDEN], ids=[each[0] for each in GOLDEN]
)
def test_what_a_message_costs(model, said, expected) -> None:
    """Each usage by hand: tokens times the rate of their kind, in nano-dollars."""
    assert expected == nanos(model, said)


@pytest.mark.parametrize("said", [each[2] for each in GOLDEN], ids=[each[0] for each in GOLDEN])
def test_a_stream_costs_the_same(said) -> None:
    """The counts come twice, the last ones hold; before those, the output is not known."""
    begun = {**said, "output_tokens": 1, "iterations": None, "output_tokens_details": None}
    reader = MessageReader()
    start = {"type": "message_start", "message": {"id": "m", "usage": begun}}
    reader.feed(f"event: message_start\ndata: {json.dumps(start)}\n\n".encode())
    assert reader.usage is None or 0 == reader.usage.output_tokens
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": said}
    reader.feed(f"event: message_delta\ndata: {json.dumps(end)}\n\n".encode())
    assert usage_told(said) == reader.usage


def test_only_what_is_said_replaces_what_was_said() -> None:
    """A last event with the output alone keeps the counts of the first one."""
    begun = say(10, 1, read=500, write=70, w5=70)
    used = usage_told(overlaid(begun, {"output_tokens": 40, "cache_read_input_tokens": 0}))
    assert (580, 40, 500, 70) == (
        used.input_tokens, used.output_tokens, used.cached_tokens, used.cache_write_tokens,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tier", "speed", "place", "expected"),
    [
        (None, None, None, None),
        ("standard", "standard", "global", "standard"),
        ("auto", None, None, "standard"),
        ("batch", None, "us", "batch+us"),
        (None, "fast", None, "fast-mode"),
        ("priority", "fast", "us", "fast-mode+us"),
    ],
)
def test_what_has_a_price_of_its_own_is_a_tier(tier, speed, place, expected) -> None:
    """Tier, speed and place together say which price holds."""
    assert expected == tier_of(tier, speed, place)


COUNT = st.integers(0, 10**6)
SAID = st.builds(say, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)


@given(SAID, st.lists(SAID, max_size=4))
def test_no_usage_is_inconsistent(said, more) -> None:
    """Whatever is reported, no part is more than its whole, and nothing that the sums say is
    lost."""
    used = usage_told({**said, "iterations": rounds(*more)})
    assert used.is_consistent()
    whole = said["input_tokens"] + said["cache_read_input_tokens"]
    assert used.input_tokens >= whole + said["cache_creation_input_tokens"]
    assert used.output_tokens >= said["output_tokens"]
