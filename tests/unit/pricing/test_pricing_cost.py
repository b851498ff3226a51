"""Arithmetic of costs, worst cases and estimates."""

from dataclasses import replace
from datetime import date
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from merino.domain.usage import Usage
from merino.pricing.cost import Cost, cost, has_cost
from merino.pricing.estimate import (
    MESSAGE_TOKENS,
    OUTPUT_TOKENS_UNBOUNDED,
    REQUEST_TOKENS,
    count_text_tokens,
    input_tokens_counted,
    input_tokens_estimate,
    output_tokens_affordable,
    worst_case,
)
from merino.pricing.price import PPM, Price, Rates
from merino.pricing.tariff import own_price


class Request:
    """What an estimate reads of a request."""

    def __init__(self, n: int = 1, **fields: object) -> None:
        self.n = n
        self.fields = {name: msgspec.Raw(msgspec.json.encode(v)) for name, v in fields.items()}


rate = st.integers(0, 10**12)
plain_rates = st.builds(
    Rates, input=rate, cached=rate, cache_write=rate, output=rate, audio_input=rate,
    audio_output=rate, image_input=rate, per_call_nanos=st.integers(0, 10**10),
)  # fmt: skip
rates = st.builds(
    lambda base, step, above: replace(base, steps=((above, step),) if above else ()),
    plain_rates, plain_rates, st.integers(0, 10**6),
)  # fmt: skip


def price_of(upstream: Rates, account: Rates | None = None, ppm: int = PPM) -> Price:
    return Price(
        "p/m@1970-01-01", "p", "m", date(1970, 1, 1), None, upstream, account or upstream, ppm
    )


prices = st.builds(
    price_of, rates, st.none() | rates, st.sampled_from([PPM, 1_250_000, 1, 0, 999_999_999])
)
tokens = st.integers(0, 10**7)


@st.composite
def usages(draw):
    size, output = draw(tokens), draw(tokens)
    cached = draw(st.integers(0, size))
    image = draw(st.integers(0, size))
    return Usage(
        size, output, cached, draw(st.integers(0, size - cached)), draw(st.integers(0, output)),
        image, draw(st.integers(0, size - image)), draw(st.integers(0, output)),
    )  # fmt: skip


def exact(usage: Usage, r: Rates) -> Fraction:
    """The definition, in fractions of a nano-dollar."""
    r = r.at(usage.input_tokens)
    overlap = max(
        0,
        usage.cached_tokens + usage.cache_write_tokens + usage.image_input_tokens
        + usage.audio_input_tokens - usage.input_tokens,
    )  # fmt: skip
    image = max(0, usage.image_input_tokens - overlap)
    audio = usage.audio_input_tokens - max(0, overlap - usage.image_input_tokens)
    text = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens - image - audio
    return Fraction(
        text * r.input + usage.cached_tokens * r.cached + usage.cache_write_tokens * r.cache_write
        + image * r.image_input + audio * r.audio_input
        + (usage.output_tokens - usage.audio_output_tokens) * r.output
        + usage.audio_output_tokens * r.audio_output,
        10**6,
    )  # fmt: skip


def half_up(value: Fraction) -> int:
    return (value + Fraction(1, 2)).__floor__()


@given(usages(), prices)
def test_cost_is_the_exact_sum_rounded_once(usage, price):
    """Both sums equal the definition in fractions, rounded half up once; a markup comes before."""
    spent = cost(usage, price)
    factor = Fraction(price.account_ppm, PPM)
    account = exact(usage, price.account) + price.account.per_call_nanos
    assert (
        half_up(exact(usage, price.upstream) + price.upstream.per_call_nanos)
        == spent.upstream_nanos
    )
    assert half_up(account * factor) == spent.account_nanos
    assert min(spent.account_nanos, spent.upstream_nanos) >= 0


@given(usages(), plain_rates, st.integers(0, 1000), st.integers(0, 1000))
def test_cost_never_falls_with_more_tokens(usage, upstream, more_input, more_output):
    """More input or output of the same kinds never costs less."""
    more = structs.replace(
        usage,
        input_tokens=usage.input_tokens + more_input,
        output_tokens=usage.output_tokens + more_output,
    )
    before, after = cost(usage, price_of(upstream)), cost(more, price_of(upstream))
    assert after.account_nanos >= before.account_nanos


@given(usages(), usages(), plain_rates)
def test_cost_is_additive_within_rounding(one, other, upstream):
    """Two calls cost what one with the sum of their tokens costs, but for one nano-dollar each and
    the fee of a call; tokens that are two things at once are left out of the rule."""
    upstream = replace(upstream, per_call_nanos=0)
    one, other = (
        structs.replace(u, image_input_tokens=0, audio_input_tokens=0) for u in (one, other)
    )
    both = Usage(*(getattr(one, f) + getattr(other, f) for f in Usage.__struct_fields__))
    price = price_of(upstream)
    apart = cost(one, price).account_nanos + cost(other, price).account_nanos
    assert abs(apart - cost(both, price).account_nanos) <= 1


def test_steps_hold_for_the_whole_call():
    """Above a step's threshold all tokens cost the step's rates; at it they don't yet."""
    base = Rates(1_000_000, 0, 0, 2_000_000, 0, 0, 0)
    price = price_of(
        replace(base, steps=((100, replace(base, input=3_000_000, output=5_000_000)),))
    )
    assert 100 + 20 == cost(Usage(100, 10), price).account_nanos
    assert 303 + 50 == cost(Usage(101, 10), price).account_nanos


def test_half_a_nano_rounds_up():
    """The rounding rule: half up."""
    price = price_of(Rates(500_000, 0, 0, 0, 0, 0, 0))
    assert Cost(1, 1) == cost(Usage(1, 0), price)
    assert Cost(1, 1) == cost(Usage(2, 0), price)


@given(
    price=prices,
    nanos=st.integers(0, 10**13),
    size=st.integers(0, 10**6),
    n=st.integers(1, 128),
)
def test_affordable_is_the_inverse_of_the_worst_case(price, nanos, size, n):
    """The affordable output costs at most the amount, one token more costs more than it."""
    request = Request(n)
    most = output_tokens_affordable(nanos, price, size, n, request=request)
    if most == OUTPUT_TOKENS_UNBOUNDED:
        assert worst_case(request, price, size, 10**9) <= nanos
        return
    assert most < 0 or worst_case(request, price, size, most) <= nanos
    assert nanos < worst_case(request, price, size, most + 1)


@given(usages(), prices, st.integers(1, 4))
def test_no_usage_within_bounds_costs_more_than_the_worst_case(usage, price, n):
    """Whatever kinds the tokens turn out to be, within a step's bounds nothing exceeds the worst case."""
    request = Request(n, audio={}, messages=[{"content": [{"image_url": 1}, {"input_audio": 1}]}])
    per_choice = -(-usage.output_tokens // n)
    worst = worst_case(request, price, usage.input_tokens, per_choice)
    assert cost(usage, price).account_nanos <= worst


def test_audio_rates_count_only_where_audio_may_come():
    """A text call to an audio model is not held for audio."""
    price = price_of(Rates(1_000_000, 0, 0, 1_000_000, 50_000_000, 80_000_000, 0))
    messages = [{"role": "user", "content": 'the "input_audio" field'}]
    assert 20 == worst_case(Request(messages=messages), price, 10, 10)
    assert 810 == worst_case(Request(messages=messages, audio={}), price, 10, 10)
    heard = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]
    assert 510 == worst_case(Request(messages=heard), price, 10, 10)


def message(content: object) -> Request:
    return Request(messages=[{"role": "user", "content": content}])


def test_text_is_estimated_from_its_bytes():
    """A third of the bytes plus ten percent, and an overhead per message and call."""
    request = message("x" * 3000)
    size = len(request.fields["messages"])
    assert -(-size * 11 // 30) + MESSAGE_TOKENS + REQUEST_TOKENS == input_tokens_estimate(request)
    written = len(msgspec.json.encode(msgspec.json.decode(request.fields["messages"])))
    assert count_text_tokens(written) == input_tokens_counted(request)


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_estimated_less(text, more):
    """The estimate grows with the text."""
    assert input_tokens_estimate(message(text)) <= input_tokens_estimate(message(text + more))


@pytest.mark.parametrize(
    "messages", [[1], ["image_url"], [{"content": [1, "file"]}], {"content": 1}]
)
def test_messages_of_unforeseen_shape_are_text(messages):
    """A shape nobody foresaw is counted by its bytes, without an exception."""
    request = Request(messages=messages)
    assert input_tokens_estimate(request) >= len(request.fields["messages"]) // 3


def test_embeddings_of_tokens_are_counted_exactly():
    """Input that is already tokens counts one per number."""
    assert 5 + REQUEST_TOKENS == input_tokens_estimate(Request(input=[[1, 2, 3], [4, 5]]))
    assert 5 == input_tokens_counted(Request(input=[[1, 2, 3], [4, 5]]))


@given(st.integers(0, 10**6))
def test_counted_text_is_four_bytes_a_token(size):
    """Rounded up, so that any text is at least one token."""
    assert -(-size // 4) == count_text_tokens(size)


@given(usages(), st.integers(0, 10**12))
def test_splitting_tokens_over_categories_charges_none_twice(usage, rate):
    """Where every category has the same rate, a call costs its tokens times that rate, whatever
    part of them is cached, written, pictures, sound or thinking."""
    flat = Rates(rate, rate, rate, rate, rate, rate, rate)
    tokens = usage.input_tokens + usage.output_tokens
    assert half_up(Fraction(tokens * rate, 10**6)) == cost(usage, price_of(flat)).account_nanos


def test_a_price_is_above_zero_if_any_part_of_it_is() -> None:
    """What costs something cannot be charged nothing."""
    free = Rates(0, 0, 0, 0, 0, 0, 0)
    assert not has_cost(own_price("m", free, free))
    for rates in (replace(free, input=1), replace(free, output=1), replace(free, per_call_nanos=1)):
        assert has_cost(own_price("m", rates, rates))
        assert not has_cost(own_price("m", rates, rates).times(0))
