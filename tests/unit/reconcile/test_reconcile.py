"""What a provider billed beside what was booked, and why they differ."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.reconcile.planted import (
    MONTH,
    at,
    call,
    costs_file,
    iso,
    rate,
    token_costs,
    usage_file,
)

from merino.domain.errors import InvalidCall
from merino.reconcile import (
    Billed,
    Charged,
    OwnAttempt,
    Place,
    Statement,
    as_csv,
    as_object,
    own_books,
    read_statement,
    reconcile,
    summary,
)


def compared(calls, *files, provider="openai", keys=None):
    return reconcile(read_statement(provider, files), own_books(calls), MONTH, keys)


def causes(found):
    """Cents by cause, and that the parts are the whole."""
    whole = sum((each.nanos for each in found.differences), Fraction(0))
    assert found.their_nanos - found.own_nanos == whole
    cents: dict[str, int] = {}
    for each in summary(found.differences):
        cents[each.cause] = cents.get(each.cause, 0) + round(each.nanos / 10_000_000)
    return cents


def test_the_same_usage_at_the_same_price_differs_in_nothing():
    found = compared(
        [call(1, 1_000_000, 200_000), call(2, 500_000, 100_000)],
        usage_file((1, 1, 1_000_000, 200_000, {}), (2, 1, 500_000, 100_000, {})),
        costs_file(*token_costs(1, 1_000_000, 200_000), *token_costs(2, 500_000, 100_000)),
    )
    assert {} == causes(found)
    assert (2, 2) == (found.their_calls, found.own_calls)
    assert found.their_nanos == found.own_nanos


def test_calls_that_the_relay_never_made():
    """More calls than booked, and their tokens."""
    found = compared(
        [call(1, 1_000_000, 200_000)],
        usage_file((1, 3, 1_400_000, 300_000, {})),
        costs_file(*token_costs(1, 1_400_000, 300_000)),
    )
    expected = round((400_000 * rate("input") + 100_000 * rate("output")) * 100)
    assert {"unknown_calls": expected} == causes(found)
    assert 2 == found.differences[0].calls


def test_a_model_that_the_relay_never_called():
    found = compared(
        [call(1, 1_000_000, 200_000)],
        usage_file((1, 1, 1_000_000, 200_000, {}), (1, 4, 10, 10, {"model": "gpt-4o"})),
        costs_file(*token_costs(1, 1_000_000, 200_000), (1, "gpt-4o, output", 0.5, {})),
    )
    assert {"unknown_calls": 50} == causes(found)


def test_calls_that_the_provider_does_not_list():
    found = compared(
        [call(1, 1_000_000, 200_000), call(2, 1_000_000, 200_000)],
        usage_file((1, 1, 1_000_000, 200_000, {})),
        costs_file(*token_costs(1, 1_000_000, 200_000)),
    )
    expected = -round((1_000_000 * rate("input") + 200_000 * rate("output")) * 100)
    assert {"unlisted_calls": expected} == causes(found)


def test_another_price_names_both_rates():
    found = compared(
        [call(1, 1_000_000, 200_000)],
        usage_file((1, 1, 1_000_000, 200_000, {})),
        costs_file(
            (1, "o3-2025-04-16, input", 1_000_000 * rate("input"), {}),
            (1, "o3-2025-04-16, output", 200_000 * rate("output") * 2, {}),
        ),
    )
    assert {"other_price": round(200_000 * rate("output") * 100)} == causes(found)
    assert found.differences[0].why == "output $16 a million, booked at $8"


def test_another_tier_is_told_where_the_provider_tells_it():
    found = compared(
        [call(1, 1_000_000, 200_000)],
        usage_file((1, 1, 1_000_000, 200_000, {"service_tier": "priority"})),
        costs_file(
            *((day, line, 2 * dollars, more) for day, line, dollars, more in token_costs(
                1, 1_000_000, 200_000
            ))
        ),
    )  # fmt: skip
    assert ["other_tier"] == [*causes(found)]
    assert "priority" in found.differences[0].why


def test_calls_over_midnight_are_moved_as_far_as_the_provider_counts_them_so():
    late = call(1, 400_000, 50_000, hour=23, lasts_s=7200)
    found = compared(
        [call(1, 1_000_000, 200_000), late, call(2, 600_000, 10_000)],
        usage_file((1, 1, 1_000_000, 200_000, {}), (2, 2, 1_000_000, 60_000, {})),
        costs_file(*token_costs(1, 1_000_000, 200_000), *token_costs(2, 1_000_000, 60_000)),
    )
    assert {"late": 0} == causes(found)
    assert found.their_nanos == found.own_nanos
    worth = (400_000 * rate("input") + 50_000 * rate("output")) * 10**9
    assert [(iso(1), -worth), (iso(2), worth)] == [
        (each.place.day, each.nanos) for each in found.differences
    ]


def test_a_provider_that_counts_calls_by_their_beginning_moves_nothing():
    found = compared(
        [call(1, 400_000, 50_000, hour=23, lasts_s=7200)],
        usage_file((1, 1, 400_000, 50_000, {})),
        costs_file(*token_costs(1, 400_000, 50_000)),
    )
    assert {} == causes(found)


def test_calls_over_the_months_edges():
    """What ended in the month is billed in it; what ended after it is not."""
    found = compared(
        [
            call(0, 300_000, 0, hour=23, lasts_s=7200),
            call(1, 1_000_000, 0),
            call(31, 700_000, 0, hour=23, lasts_s=7200),
        ],
        usage_file((1, 2, 1_300_000, 0, {})),
        costs_file(*token_costs(1, 1_300_000, 0)),
    )
    assert {"late": round(-400_000 * rate("input") * 100)} == causes(found)
    assert (300_000 + 1_000_000) * rate("input") * 10**9 == found.their_nanos
    assert (1_000_000 + 700_000) * rate("input") * 10**9 == found.own_nanos


def test_cut_streams_whose_usage_the_relay_counted_itself():
    found = compared(
        [call(1, 1_000_000, 200_000), call(1, 100_000, 5_000, source="counted")],
        usage_file((1, 2, 1_100_000, 230_000, {})),
        costs_file(*token_costs(1, 1_100_000, 230_000)),
    )
    assert {"cut_streams": round(25_000 * rate("output") * 100)} == causes(found)
    assert (1, "+25,000 output") == (found.differences[0].calls, found.differences[0].why)


def test_attempts_that_broke_off_and_were_billed():
    failed = call(
        1, 0, 0, nanos=0, source="none", is_answered=False,
        attempts=(OwnAttempt("UpstreamTimedOut", 0),),
    )  # fmt: skip
    found = compared(
        [call(1, 1_000_000, 200_000), failed],
        usage_file((1, 2, 1_100_000, 260_000, {})),
        costs_file(*token_costs(1, 1_100_000, 260_000)),
    )
    expected = round((100_000 * rate("input") + 60_000 * rate("output")) * 100)
    assert {"broken_attempts": expected} == causes(found)


@pytest.mark.parametrize(("billed", "calls"), [(50_000, 2), (80_000, 2), (0, 1)])
def test_lost_hedges_are_held_against_what_they_were_taken_to_cost(billed, calls):
    """Billed as assumed, dearer, and not at all. What was assumed is part of what was booked."""
    taken = round(50_000 * rate("output") * 10**9)
    raced = call(1, 1_000_000, 200_000, attempts=(OwnAttempt("HedgeLost", taken),))
    found = compared(
        [raced],
        usage_file((1, calls, 1_000_000, 200_000 + billed, {})),
        costs_file(*token_costs(1, 1_000_000, 200_000 + billed)),
    )
    assert raced.nanos + taken == found.own_nanos
    apart = round((billed - 50_000) * rate("output") * 100)
    assert ({"lost_hedges": apart} if apart else {}) == causes(found)


def test_other_tokens_for_as_many_calls_stay_unexplained():
    """Nothing the relay knows shows why, and it says so."""
    found = compared(
        [call(1, 1_000_000, 200_000)],
        usage_file((1, 1, 1_000_000, 300_000, {})),
        costs_file(*token_costs(1, 1_000_000, 300_000)),
    )
    assert {"unexplained": round(100_000 * rate("output") * 100)} == causes(found)
    assert found.unexplained == found.their_nanos - found.own_nanos


def test_costs_of_what_is_not_metered():
    found = compared(
        [call(1, 1_000_000, 200_000)],
        usage_file((1, 1, 1_000_000, 200_000, {})),
        costs_file(
            *token_costs(1, 1_000_000, 200_000),
            (1, "o3-2025-04-16, web search tool calls", 0.25, {}),
            (1, "Vector store storage", 0.75, {}),
        ),
    )
    assert {"unmetered": 100} == causes(found)


def test_keys_that_are_not_the_relays():
    """Whose key was used settles it, even where the model is the relay's too."""
    key = {"api_key_id": "key_relay"}
    other = {"api_key_id": "key_laptop"}
    found = compared(
        [call(1, 1_000_000, 200_000, key="openai/o3")],
        usage_file((1, 1, 1_000_000, 200_000, key), (1, 1, 50_000, 10_000, other)),
        costs_file(
            *token_costs(1, 1_000_000, 200_000, **key), *token_costs(1, 50_000, 10_000, **other)
        ),
        keys={"key_relay": "openai/o3"},
    )
    assert ["foreign_key"] == [*causes(found)]
    assert {"key_relay", "key_laptop"} == set(found.keys)


def test_costs_by_day_alone_are_shared_out_by_usage():
    """An export that is not grouped by line item still adds up, and says what was done."""
    found = compared(
        [call(1, 1_000_000, 0), call(1, 1_000_000, 0, model="gpt-4o")],
        usage_file((1, 1, 1_000_000, 0, {}), (1, 1, 1_000_000, 0, {"model": "gpt-4o"})),
        costs_file((1, None, 1_000_000 * (rate("input") + rate("input", "gpt-4o")), {})),
    )
    assert {} == causes(found)
    assert any("shared out" in note for note in found.notes)


def test_usage_without_costs_is_compared_at_the_relays_prices():
    found = compared([call(1, 1_000_000, 0)], usage_file((1, 2, 1_500_000, 0, {})))
    assert {"unknown_calls": round(500_000 * rate("input") * 100)} == causes(found)
    assert any("no costs" in note for note in found.notes)


def test_costs_without_usage_leave_the_rest_unexplained():
    found = compared([call(1, 1_000_000, 0)], costs_file(*token_costs(1, 1_500_000, 0)))
    assert {"unexplained": round(500_000 * rate("input") * 100)} == causes(found)
    assert any("no usage" in note for note in found.notes)


def test_parts_that_the_provider_does_not_tell_are_counted_with_their_whole():
    """OpenRouter's activity has prompt tokens alone; the relay knows what was cached."""
    booked = call(1, 1_000_000, 100_000, cached_tokens=400_000)
    dollars = booked.nanos / 10**9
    csv = (
        "date,model,usage,requests,prompt_tokens,completion_tokens\n"
        f"2026-10-01,openai/o3,{dollars},1,1000000,100000\n"
    )
    found = compared([booked], ("activity.csv", csv), provider="openrouter")
    assert {} == causes(found)


def test_anthropics_api_and_console_agree():
    """Cents in the API, dollars in the CSV; names as the page writes them."""
    booked = call(1, 100_000, 10_000, model="claude-sonnet-4-5")
    usage = (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
        "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,"
        "web_search_count,inference_geo,speed\n"
        "2026-10-01,claude-sonnet-4-5-20250929,prod,Default,standard,≤ 200k,"
        "100000,0,0,0,10000,0,not_available,\n"
    )
    input_cents, output_cents = 100_000 * 300 / 10**6, 10_000 * 1500 / 10**6
    console = (
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,"
        "cost_type\n"
        f"2026-10-01,Claude Sonnet 4.5,Default,prod,message,≤ 200k,input_no_cache,"
        f"{input_cents / 100},token\n"
        f"2026-10-01,Claude Sonnet 4.5,Default,prod,message,≤ 200k,output,"
        f"{output_cents / 100},token\n"
    )
    lines = [
        {"currency": "USD", "amount": str(cents), "token_type": kind, "cost_type": "tokens"}
        for kind, cents in (("uncached_input_tokens", input_cents), ("output_tokens", output_cents))
    ]
    results = [{**line, "model": "claude-sonnet-4-5-20250929"} for line in lines]
    bucket = {"starting_at": "2026-10-01T00:00:00Z", "ending_at": "2026-10-02T00:00:00Z"}
    api = json.dumps({"data": [{**bucket, "results": results}], "has_more": False})
    for costs in (console, api):
        found = compared([booked], ("u.csv", usage), ("c", costs), provider="anthropic")
        assert {} == causes(found)
        assert found.their_calls is None


def test_cache_writes_of_unknown_life_are_compared_as_one():
    """The provider tells them by their life; the relay's upstream did not."""
    statement = Statement(
        (Billed(Place(iso(1), "m", ""), 1, {"cache_write_5m": 60, "cache_write_1h": 40}),),
        (Charged(Place(iso(1), "m", ""), "cache_write_5m", Fraction(100)),),
    )
    booked = call(1, 100, 0)
    books = own_books([booked])
    own = next(iter(books.values()))
    own.units, own.nanos = {"cache_write": 100}, {"cache_write": Fraction(100)}
    found = reconcile(statement, {Place(iso(1), "m", ""): own}, MONTH)
    assert () == found.differences


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "x,y\n1,2\n", "has no column with a day"),
        ("a.csv", "date,model\n2026-10-01,o3\n", "has neither usage nor costs"),
        ("a.csv", "date,input_tokens\n2026-10-01,lots\n", "row 1: input_tokens = 'lots'"),
        ("a.csv", "date,amount_value\n2026-10-01,1e999\n", "is not an amount"),
        ("a.csv", "date,amount_value\n01/02/2026,1\n", "is not a time"),
        ("a.csv", "date,amount_value,amount_currency\n2026-10-01,1,eur\n", "are in EUR"),
        ("a.csv", "date,input_tokens,input_cached_tokens\n2026-10-01,1,2\n", "contradict"),
        ("a.json", '{"data": []}', "has no usage and no costs"),
        ("a.json", "{", "is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, text, said):
    with pytest.raises(InvalidCall, match=name) as caught:
        read_statement("openai", [(name, text)])
    assert said in str(caught.value)


def planted_month():
    """A month with a difference of each kind, on days of their own."""
    usual = [call(day, 1_000_000, 200_000) for day in range(2, 29)]
    usage = {day: [1, 1_000_000, 200_000] for day in range(2, 29)}
    costs = {day: token_costs(day, 1_000_000, 200_000) for day in range(2, 29)}

    def billed(day, calls, input_tokens, output_tokens):
        usage[day] = [calls, input_tokens, output_tokens]
        costs[day] = token_costs(day, input_tokens, output_tokens)

    billed(3, 3, 1_250_000, 260_000)  # two calls past the relay
    costs[7][1] = (7, "o3-2025-04-16, output", 200_000 * rate("output") * 5 / 4, {})
    late = call(10, 400_000, 50_000, hour=23, lasts_s=7200)
    billed(11, 2, 1_400_000, 250_000)
    cut = call(15, 80_000, 2_000, source="counted")
    billed(15, 2, 1_080_000, 212_000)
    timed_out = call(
        20, 0, 0, nanos=0, source="none", is_answered=False,
        attempts=(OwnAttempt("UpstreamTimedOut", 0),),
    )  # fmt: skip
    billed(20, 2, 1_090_000, 240_000)
    costs[25].append((25, "o3-2025-04-16, web search tool calls", Fraction(3, 10), {}))
    rows = [(day, *counts, {}) for day, counts in sorted(usage.items())]
    lines = [line for day in sorted(costs) for line in costs[day]]
    return [*usual, late, cut, timed_out], usage_file(*rows), costs_file(*lines)


def test_a_month_with_a_difference_of_each_kind():
    """Each is found on its day, with its amount to the cent; nothing is left."""
    calls, usage, costs = planted_month()
    found = compared(calls, usage, costs)

    def both(input_tokens, output_tokens):
        return round((input_tokens * rate("input") + output_tokens * rate("output")) * 100)

    expected = {
        "unknown_calls": both(250_000, 60_000),
        "other_price": both(0, 50_000),
        "late": 0,
        "cut_streams": both(0, 10_000),
        "broken_attempts": both(90_000, 40_000),
        "unmetered": 30,
    }
    assert expected == causes(found)
    days = {each.cause: sorted(each.days) for each in summary(found.differences)}
    assert [[iso(3)], [iso(7)], [iso(10), iso(11)], [iso(15)], [iso(20)], [iso(25)]] == [
        days[cause] for cause in expected
    ]
    assert 0 == found.unexplained


counts = st.integers(0, 5_000_000)
days = st.integers(1, 31)
CALLS = st.builds(
    call,
    days,
    counts,
    counts,
    hour=st.integers(0, 23),
    lasts_s=st.sampled_from((1, 7200, 100_000)),
    source=st.sampled_from(("reported", "counted")),
    attempts=st.lists(
        st.builds(
            OwnAttempt,
            st.sampled_from(("HedgeLost", "UpstreamTimedOut", "UpstreamRefused")),
            st.integers(0, 10**9),
        ),
        max_size=2,
    ).map(tuple),
)
PLACES = st.builds(
    Place, days.map(iso), st.sampled_from(("o3", "o3-2025-04-16", "gpt-4o")), st.just("")
)
KINDS = st.sampled_from(("input", "cached", "output", "web_search"))


@given(
    st.lists(CALLS, max_size=8),
    st.lists(
        st.builds(Billed, PLACES, st.integers(0, 9), st.dictionaries(KINDS, counts)), max_size=8
    ),
    st.lists(
        st.builds(Charged, PLACES, KINDS, st.fractions(0, 10**12, max_denominator=1000)),
        max_size=8,
    ),
)
def test_the_parts_are_always_the_whole(calls, usage, costs):
    """Whatever both sides say, what is explained and what is not add up, to the last nano."""
    statement = Statement(tuple(usage), tuple(costs))
    found = reconcile(statement, own_books(calls), MONTH)
    whole = sum((each.nanos for each in found.differences), Fraction(0))
    assert found.their_nanos - found.own_nanos == whole
    if costs:
        assert found.their_nanos == sum((each.nanos for each in costs), Fraction(0))
    in_month = [each for each in calls if at(1, 0) <= each.at_ms < at(32, 0)]
    lost = [
        attempt.nanos
        for each in in_month
        for attempt in each.attempts
        if attempt.outcome == "HedgeLost"
    ]
    assert found.own_nanos == sum(each.nanos for each in in_month) + sum(lost)
    assert as_object(found)["difference_nanos"] == round(whole)
    assert len(found.lines) <= as_csv(found).count("\n")


@given(st.lists(CALLS.filter(lambda each: not each.attempts), min_size=1, max_size=8))
def test_a_bill_that_is_right_differs_in_nothing(calls):
    """A provider that lists just what was booked is never argued with."""
    books = own_books(calls)
    usage = tuple(Billed(place, own.calls, dict(own.units)) for place, own in books.items())
    costs = tuple(
        Charged(place, kind, nanos)
        for place, own in books.items()
        for kind, nanos in own.nanos.items()
    )
    found = reconcile(Statement(usage, costs), books, MONTH)
    assert () == found.differences
