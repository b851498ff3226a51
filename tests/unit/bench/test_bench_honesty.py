"""What a benchmark must not do: pass what broke its bound, measure a cache, or fail on spelling."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.bench.caller import Asked, Caller, CallerPolicy
from merino.bench.generator import Bodies
from merino.bench.samples import CallSample, is_too_long
from merino.bench.scenario import Lengths, Prompt, Scenario
from merino.bench.slo import parse_objectives
from merino.bench.stats import quantile
from merino.bench.targets import Target
from merino.cli.bench_setup import warmup_of


def sample(**more: Any) -> CallSample:
    seen = {"first_token_s": 0.1, "first_visible_s": 0.1, "last_token_s": 0.4, "output_tokens": 4}
    return CallSample(number=0, target="t", scheduled_s=0.0, sent_s=0.0, end_s=0.5, **seen | more)


def is_met(text: str, of: CallSample) -> bool:
    return all(objective.is_met_by_call(of) for objective in parse_objectives(text))


@given(
    st.lists(st.floats(0, 1000), min_size=1, max_size=30),
    st.sampled_from(["p50", "p90", "p99", "p99.9"]),
    st.floats(0, 1000),
)
def test_gaps_are_judged_by_the_calls_own(gaps, statistic, bound) -> None:
    """A bound on a percentile of gaps holds for a call if its own gaps keep to it."""
    wanted = quantile(sorted(gaps), float(statistic[1:]) / 100) <= bound
    assert wanted == is_met(f"itl_ms_{statistic}={bound!r}", sample(gaps_ms=gaps))


@pytest.mark.parametrize(
    "objective",
    ["ttft_ms_p99=5000", "ttft_visible_ms_p99=5000", "tpot_ms_mean=5000", "itl_ms_p99=5000",
     "tokens_per_s_p50=0"],
)  # fmt: skip
def test_an_answer_without_a_token_meets_no_bound_on_tokens(objective) -> None:
    """All of it was spent on thinking that nobody saw."""
    empty = sample(first_token_s=None, first_visible_s=None, last_token_s=None, output_tokens=50)
    assert not is_met(objective, empty)
    assert is_met(objective, sample(gaps_ms=[1.0]))


def test_what_has_no_such_figure_is_not_judged() -> None:
    """One token has no gap, an answer in one piece no first token, and both may be good."""
    assert is_met("itl_ms_p99=1,tpot_ms_p99=1", sample(output_tokens=1, gaps_ms=[]))
    assert is_met("ttft_ms_p99=1", sample(first_token_s=None, first_visible_s=None))
    assert is_met("error_share=0.1", sample())


def test_an_answer_that_was_only_thought_meets_no_bound_on_what_is_seen() -> None:
    """It had a first token, but no visible one."""
    thought = sample(first_visible_s=None)
    assert not is_met("ttft_visible_ms_p99=5000", thought)
    assert is_met("ttft_ms_p99=5000", thought)


def test_other_words_of_the_same_length() -> None:
    """Two targets, or two runs, are asked the same amount, and no prefix of one is the other's."""
    lengths = Lengths("uniform", 100, low=50, high=400)
    scenario = Scenario("s", input_tokens=lengths, output_tokens=lengths, shared_prefix_tokens=20)
    one, other, again = (
        list(islice(scenario.asked(7, wording), 20)) for wording in ("a", "b", "a")
    )
    assert one == again
    texts = [[str(each.messages[0]["content"]) for each in prompts] for prompts in (one, other)]
    assert not {text[:60] for text in texts[0]} & {text[:60] for text in texts[1]}
    for left, right in zip(*texts, strict=True):
        assert abs(len(left) - len(right)) <= 12
    assert [each.max_output_tokens for each in one] == [each.max_output_tokens for each in other]


class Answer:
    connect_s = None

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def header(self, name: bytes) -> bytes | None:
        return None

    async def read(self, bytes_max: int) -> bytes:
        return self.body

    async def pipe(self, sink) -> None:
        sink(self.body)

    def close(self) -> None:
        pass


def named(name: str) -> Any:
    return {"detail": [{"loc": ["body", name]}]}


class Picky:
    """A server that does not know some fields, and says so in its own words."""

    def __init__(self, *unknown: str, words=named, status: int = 422) -> None:
        self.unknown = unknown
        self.words = words
        self.status = status
        self.asked: list[dict[str, Any]] = []

    async def send(self, data: bytes) -> Any:
        fields = json.loads(data.partition(b"\r\n\r\n")[2])
        self.asked.append(fields)
        if bad := [name for name in self.unknown if name in fields]:
            await asyncio.sleep(0)
            return Answer(self.status, json.dumps(self.words(bad[0])).encode())
        return Answer(
            200,
            b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
            b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
        )


BODY = json.dumps(
    {"model": "m", "messages": [], "max_completion_tokens": 9, "stream_options": {}}
).encode()


@pytest.mark.parametrize(
    ("unknown", "first", "wanted"),
    [
        ((), 1, {"max_completion_tokens": 9, "stream_options": {}}),
        (("max_completion_tokens",), 2, {"max_tokens": 9, "stream_options": {}}),
        (("stream_options",), 2, {"max_completion_tokens": 9}),
        (("max_completion_tokens", "stream_options"), 3, {"max_tokens": 9}),
    ],
)
def test_a_server_is_asked_in_its_own_spelling(unknown, first, wanted) -> None:
    """Found out by its refusal, once; that is no failure of a call, nor its time."""

    async def run() -> None:
        server = Picky(*unknown)
        caller = Caller(server.send, Target("t", "http://x/v1", "m", ""), CallerPolicy())
        samples = [await caller.call(Asked(number, BODY, 0.0)) for number in range(3)]
        assert [None] * 3 == [each.error for each in samples]
        assert first + 2 == len(server.asked)
        assert {"model": "m", "messages": [], **wanted} == server.asked[-1]
        assert all(0 <= each.sent_s - each.scheduled_s < 5 for each in samples[:1] if first > 1)

    asyncio.run(run())


@pytest.mark.parametrize(
    "words",
    [
        lambda name: {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}]},
        lambda name: {"message": {"detail": [{"loc": ["body", name], "msg": "Extra inputs"}]}},
        lambda name: {"error": {"message": "Unrecognized request argument", "param": name}},
        lambda name: {"error": {"message": f"{'x' * 500} {name}"}},
        lambda name: {"error": {"message": f"{name.replace('_', ' ')} is not supported"}},
        lambda name: {"error": {"message": json.dumps(named(name))}},
        lambda name: {"error": {"message": "Extra inputs are not permitted"}},
        lambda name: {"error": "Additional properties are not allowed"},
    ],
    ids=["path", "inner path", "param", "far behind", "spaces", "JSON in text", "unnamed", "text"],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_server_may_refuse_in_any_words(words, status) -> None:
    """By a path, a field, a sentence, JSON in a text, or without a name; and calls that are under
    way at once learn of it each for itself."""

    async def run() -> None:
        server = Picky("max_completion_tokens", "stream_options", words=words, status=status)
        caller = Caller(server.send, Target("t", "http://x/v1", "m", ""), CallerPolicy())
        samples = await asyncio.gather(*(caller.call(Asked(n, BODY, 0.0)) for n in range(4)))
        assert [None] * 4 == [each.error for each in samples]
        assert {"model": "m", "messages": [], "max_tokens": 9} == server.asked[-1]

    asyncio.run(run())


def test_a_refusal_of_something_else_stays_one() -> None:
    """Nothing is guessed where the refusal names nothing that we chose."""

    async def run() -> None:
        server = Picky("messages")
        caller = Caller(server.send, Target("t", "http://x/v1", "m", ""), CallerPolicy())
        found = await caller.call(Asked(0, BODY, 0.0))
        assert "http_422" == found.error
        assert 1 == len(server.asked)

    asyncio.run(run())


class Deaf(Picky):
    """Passes over the names of a limit that it does not know, and then answers without end."""

    def __init__(self, known: str | None, *refused: str) -> None:
        super().__init__(*refused)
        self._known = known

    async def send(self, data: bytes) -> Any:
        answer = await super().send(data)
        if answer.status == 200:
            limit = self.asked[-1].get(self._known) if self._known else None
            usage = {"prompt_tokens": 1, "completion_tokens": limit or 5000}
            text = json.dumps({"choices": [{"delta": {"content": "a"}}], "usage": usage})
            end = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            answer.body = f"data: {text}\n\ndata: {end}\n\ndata: [DONE]\n\n".encode()
        return answer


@pytest.mark.parametrize(
    ("known", "refused", "names", "too_long"),
    [
        ("max_completion_tokens", (), ["max_completion_tokens"] * 3, [False] * 3),
        ("max_tokens", (), ["max_completion_tokens", "max_tokens", "max_tokens"],
         [True, False, False]),
        (None, (), ["max_completion_tokens", "max_tokens", "max_tokens"], [True] * 3),
        (None, ("max_tokens",),
         ["max_completion_tokens", "max_tokens", "max_completion_tokens", "max_completion_tokens"],
         [True] * 3),
    ],
)  # fmt: skip
def test_a_limit_that_is_passed_over_is_asked_for_by_its_older_name(
    known, refused, names, too_long
) -> None:
    """Once; where that one is refused or passed over, too, the answers are told to be too long."""

    async def run() -> None:
        server = Deaf(known, *refused)
        caller = Caller(server.send, Target("t", "http://x/v1", "m", ""), CallerPolicy())
        samples = [
            await caller.call(Asked(number, BODY, 0.0, output_tokens_max=9)) for number in range(3)
        ]
        assert names == [name for body in server.asked for name in body if name.startswith("max_")]
        assert [None] * 3 == [each.error for each in samples]
        assert too_long == [is_too_long(each) for each in samples]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"output_tokens": 100}, False),
        ({"output_tokens": 115}, False),
        ({"output_tokens": 116}, True),
        ({"output_tokens": 400, "reasoning_tokens": 300}, False),
        ({"output_tokens": 400, "tokens_source": "counted"}, False),
        ({"output_tokens": 400, "error": "cut"}, False),
        ({"output_tokens": 400, "output_tokens_max": None}, False),
    ],
)
def test_what_is_longer_than_asked_for(more, expected) -> None:
    """By what the server reports, reasoning and its way of counting aside."""
    assert expected == is_too_long(sample(**{"output_tokens_max": 100} | more))


def test_the_choices_of_a_call_share_a_limit_that_is_as_many_times_as_large() -> None:
    """A scenario may ask for several."""
    scenario = Scenario("s", prompts=[Prompt(({"role": "user", "content": "x"},))], body={"n": 3})
    bodies = Bodies(scenario, "m", is_streamed=True, output_tokens_max=50)
    assert (50, 3) == (bodies.limit_of(bodies.next()), bodies.choices)


@pytest.mark.parametrize(
    ("given", "concurrency", "expected"),
    [(None, None, 10), (None, 4, 10), (None, 64, 64), (0, 64, 0), (3, 64, 3)],
)
def test_every_caller_is_warm_before_calls_count(given, concurrency, expected) -> None:
    """Unless somebody says how many calls are to come before."""
    assert expected == warmup_of({"warmup": given, "concurrency": concurrency})
