"""No call takes an account below zero by the relay's own doing, whatever it asks and whichever limit
its upstream obeys."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples
from tests.unit.gateway.test_pipeline import KEY, FakeReply, World

from merino.domain.deployment import Alias, Deployment
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.pricing.price import Rates
from merino.pricing.tariff import own_price
from merino.wire.chat import parse_chat

OUTPUT_TOKENS_MAX = 1000
CONTEXT_TOKENS_MAX = 128_000
NAMES = ("max_tokens", "max_completion_tokens")


@dataclass
class Habit:
    """What an upstream makes of the two limits: those it `obeys`, the first one first, and those it
    `refuses`; `both` at once is refused too if it is so said."""

    obeys: tuple[str, ...]
    refuses: tuple[str, ...] = ()
    refuses_both: bool = False
    fails: bool = False

    def refusal(self, body: dict) -> dict | None:
        if self.refuses_both and all(name in body for name in NAMES):
            return {
                "message": "Setting 'max_tokens' and 'max_completion_tokens' at the same time is "
                "not supported.",
                "param": "max_tokens",
                "code": "invalid_parameter_combination",
            }
        for name in self.refuses:
            if name in body:
                message = (
                    f"[{{'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'}}]"
                )
                return {"message": message, "param": None, "code": None}
        return None

    def output_tokens(self, body: dict) -> int:
        limits = [body[name] for name in self.obeys if name in body]
        return limits[0] if limits else OUTPUT_TOKENS_MAX


class Answer:
    has_finished = False

    def __init__(self, status: int, body: object) -> None:
        self.status, self.body = status, json.dumps(body).encode()
        self.headers = [(b"content-type", b"application/json")]

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    def header_like(self, prefix: bytes) -> bool:
        return False

    def whole(self, bytes_max: int) -> bytes:
        return self.body

    async def read(self, bytes_max: int) -> bytes:
        return self.body

    def close(self) -> None:
        pass


@dataclass(eq=False)
class Upstreams:
    """Answer with all that they were allowed, and bill an input of `input_tokens`."""

    habits: dict[str, Habit]
    input_tokens: int
    ignores_limits: bool = False
    seen: list[dict] = field(default_factory=list)

    async def send(self, request) -> Any:
        body = json.loads(request.body)
        self.seen.append(body)
        habit = self.habits[request.deployment.name]
        if habit.fails:
            return Answer(503, {"error": {"message": "busy"}})
        refused = habit.refusal(body)
        if refused is not None:
            return Answer(400, {"error": {"type": "invalid_request_error", **refused}})
        each = 100_000 if self.ignores_limits else habit.output_tokens(body)
        used = each * body.get("n", 1)
        usage = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": used,
            "total_tokens": self.input_tokens + used,
        }
        choice = {"index": 0, "message": {"content": "x" * (8 * each)}, "finish_reason": "length"}
        return Answer(200, {"choices": [choice], "usage": usage})


@dataclass
class Asked:
    """A part of a prompt, and the most LLM tokens that anybody bills for it."""

    part: dict
    tokens: int


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0
    )
    return base64.b64encode(head + bytes(200)).decode()


def tiles(width: int, height: int) -> int:
    """OpenAI's way, as documented, with real numbers."""
    scale = min(1, 2048 / max(width, height))
    wide, high = width * scale, height * scale
    scale = min(1, 768 / min(wide, high))
    wide, high = wide * scale, high * scale
    return int(-(-wide // 512) * -(-high // 512))


def picture(width: int, height: int, shape: int) -> Asked:
    data = png(width, height)
    url = f"data:image/png;base64,{data}"
    part = (
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_image", "image_url": url},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"inline_data": {"mime_type": "image/png", "data": data}},
    )[shape]
    return Asked(part, 2833 + 5667 * tiles(width, height))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(
    # What is dense in tokens (a token a byte) is no English; four bytes are held for three.
    lambda text: Asked({"type": "text", "text": text}, len(text.encode()) // 4)
)
pictures = st.builds(picture, st.integers(1, 6000), st.integers(1, 6000), st.integers(0, 3))
away = st.sampled_from(
    [
        Asked({"type": "image_url", "image_url": {"url": "https://x/a.png"}}, 48_169),
        Asked({"type": "image_url", "image_url": {"url": "https://x/a", "detail": "low"}}, 48_169),
        *(
            Asked(part, CONTEXT_TOKENS_MAX)
            for part in (
                {"type": "file", "file": {"file_id": "file-8"}},
                {"type": "input_file", "file_url": "https://x/report.pdf"},
                {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
                {"type": "audio_url", "audio_url": {"url": "https://x/a.ogg"}},
                {"type": "document", "source": {"type": "file", "file_id": "f"}},
                {"type": "document_url", "document_url": "https://x/a.pdf"},
                {"type": "hologram", "hologram": {"handle": "h1"}},
            )
        ),
    ]
)
besides = st.sampled_from(
    [
        ({}, 0),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, 40),
        ({"documents": [{"id": "doc-1"}]}, CONTEXT_TOKENS_MAX),
        ({"documents": [{"text": "a word or two " * 40}]}, 150),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, CONTEXT_TOKENS_MAX),
        ({"web_search_options": {}}, CONTEXT_TOKENS_MAX),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x" * 40}}}, 30),
        ({"previous_response_id": "resp_1"}, CONTEXT_TOKENS_MAX),
    ]
)
habits = st.builds(
    Habit, obeys=st.sampled_from([NAMES, NAMES[::-1], NAMES[:1], NAMES[1:]]), fails=st.booleans()
) | st.sampled_from(
    [
        Habit(NAMES[:1], refuses=NAMES[1:]),
        Habit(NAMES[1:], refuses=NAMES[:1]),
        # Who refuses both at once knows either.
        Habit(NAMES, refuses_both=True),
    ]
)


def with_rates(read: int, written: int) -> Rates:
    return Rates(read, read, read, written, 0, 0, 0)


limits = st.none() | st.integers(1, 4000)
rates = st.tuples(st.integers(0, 9), st.integers(0, 30)).map(
    lambda pair: with_rates(1_000_000 * pair[0], 1_000_000 * pair[1])
)


def run(world: World, upstreams: Upstreams, body: bytes, prices) -> FakeReply:
    names = list(upstreams.habits)
    world.alias = Alias(
        "a",
        tuple(Deployment(name, "simulator", "m") for name in names),
        output_tokens_max=OUTPUT_TOKENS_MAX,
        reasoning=world.alias.reasoning,
    )

    def tariff(deployment, at_ms, tier, account_id):
        return prices[names.index(deployment.name)]

    world.pipeline.tariff = world.pipeline.planner.tariff = tariff
    attempts = world.pipeline._attempts
    if attempts.one._providers != {"simulator": upstreams}:
        attempts = Attempts(
            {"simulator": upstreams}, world.fleet, RetryPolicy(backoff_base_s=0.001, attempts_max=2)
        )
    world.pipeline._attempts = attempts
    reply = FakeReply(world.journal)

    async def scenario() -> None:
        call = Call(
            id=new_call_id(),
            key=KEY,
            request=parse_chat(body),
            alias=world.alias,
            received_at=perf_counter(),
            body=body,
            timeout_s=60,
        )
        world.fleet.keep(world.alias.deployments)
        await world.pipeline.run(call, reply)

    asyncio.run(scenario())
    return reply


@settings(max_examples=examples(150))
@given(
    # Small and large balances alike: what matters is a call at the edge of one.
    posted=st.builds(lambda most, less: most >> less, st.integers(0, 2**22), st.integers(0, 16)),
    parts=st.lists(texts, min_size=1, max_size=2)
    | st.lists(texts | pictures | away, min_size=1, max_size=4),
    beside=besides,
    given_limits=st.tuples(limits, limits),
    n=st.integers(1, 3),
    habit=st.lists(habits, min_size=1, max_size=3),
    price=st.lists(rates, min_size=3, max_size=3),
    share=st.floats(0, 1),
    reasoning=st.booleans(),
    escaped=st.booleans(),
)
def test_an_account_stays_above_zero(
    posted, parts, beside, given_limits, n, habit, price, share, reasoning, escaped
) -> None:
    """Any request, at upstreams that obey either limit or both, that refuse one or the combination,
    and that bill the most they may: the account is never below zero, and nothing stays held."""
    more, more_tokens = beside
    fields = {"n": n, **more}
    fields |= {
        name: limit for name, limit in zip(NAMES, given_limits, strict=True) if limit is not None
    }
    messages = [{"role": "user", "content": [each.part for each in parts]}]
    body = json.dumps({"model": "a", "messages": messages, **fields}, ensure_ascii=escaped).encode()
    most = min(CONTEXT_TOKENS_MAX, sum(each.tokens for each in parts) + more_tokens)
    named = {f"d{number}": each for number, each in enumerate(habit)}
    upstreams = Upstreams(named, round(most * share))
    world = World("m", posted=posted)
    world.alias = replace(world.alias, reasoning=reasoning)
    prices = [own_price(f"p{number}", each, each) for number, each in enumerate(price)]
    run(world, upstreams, body, prices)
    assert 0 == world.ledger.held
    assert world.ledger.posted >= 0, (world.ledger.records, upstreams.seen)


@pytest.mark.parametrize("ignores", [False, True])
def test_an_upstream_that_ignores_every_limit_overruns(ignores) -> None:
    """Only an upstream that obeys no limit at all can bill more than was held, and the record says
    how much more."""
    price = own_price("p", Rates(0, 0, 0, 1_000_000, 0, 0, 0), Rates(0, 0, 0, 1_000_000, 0, 0, 0))
    world = World("m", posted=500)
    upstreams = Upstreams({"d0": Habit(NAMES)}, 5, ignores_limits=ignores)
    body = json.dumps({"model": "a", "messages": [{}], "max_tokens": 400}).encode()
    run(world, upstreams, body, [price])
    (record,) = world.ledger.records
    assert (400 if not ignores else 100_000) == record.charged_nanos
    assert (0 if not ignores else 99_600) == record.overrun_nanos


@pytest.mark.parametrize(
    ("habit", "given_name"),
    [
        (Habit(NAMES[:1], refuses=NAMES[1:]), "max_completion_tokens"),
        (Habit(NAMES[1:], refuses=NAMES[:1]), "max_tokens"),
        (Habit(NAMES[1:], refuses_both=True), "max_completion_tokens"),
        (Habit(NAMES[1:], refuses_both=True), "max_tokens"),
    ],
)
def test_what_an_upstream_refuses_is_asked_once(habit, given_name) -> None:
    """A name that an upstream refuses is left out, at once for this call and from the start for the
    next; the limit itself is always sent."""
    price = own_price("p", Rates(0, 0, 0, 1_000_000, 0, 0, 0), Rates(0, 0, 0, 1_000_000, 0, 0, 0))
    world = World("m", posted=10**9)
    upstreams = Upstreams({"d0": habit}, 5)
    body = json.dumps({"model": "a", "messages": [{}], given_name: 7}).encode()
    run(world, upstreams, body, [price])
    assert [{*NAMES}, {*habit.obeys}] == [{*NAMES} & each.keys() for each in upstreams.seen]
    upstreams.seen.clear()
    run(world, upstreams, body, [price])
    assert [{*habit.obeys}] == [{*NAMES} & each.keys() for each in upstreams.seen]
    assert [7, 7] == [record.charged_nanos for record in world.ledger.records]


def test_a_prompt_that_speaks_of_limits_teaches_nothing() -> None:
    """An upstream that repeats the caller's words in a refusal does not lose a limit's name by it:
    what is refused with and without the name was not refused for the name."""
    price = own_price("p", Rates(0, 0, 0, 1_000_000, 0, 0, 0), Rates(0, 0, 0, 1_000_000, 0, 0, 0))
    world = World("m", posted=10**9)

    class Echo(Upstreams):
        async def send(self, request) -> Any:
            body = json.loads(request.body)
            self.seen.append(body)
            if body["messages"][0].get("role") != "user":
                role = body["messages"][0].get("role")
                return Answer(400, {"error": {"message": f"Invalid role: {role}"}})
            return await super().send(request)

    upstreams = Echo({"d0": Habit(NAMES)}, 5)
    bad = {"model": "a", "messages": [{"role": "max_tokens is not supported"}], NAMES[1]: 7}
    reply = run(world, upstreams, json.dumps(bad).encode(), [price])
    assert 400 == reply.error.status
    refused = world.pipeline._attempts.one.output_limits.refused
    assert not refused(world.alias.deployments[0], world.fleet.clock())
