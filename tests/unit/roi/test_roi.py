"""What a workload costs directly and through a relay."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.errors import InvalidCall, NotFound
from merino.domain.money import parse_nanos
from merino.domain.usage import Usage
from merino.pricing.book import PriceBook
from merino.pricing.price import PPM, Rates
from merino.roi import (
    AS_CHARGED,
    Horizon,
    Offer,
    OfferedPrice,
    Scenario,
    UsageRow,
    calculate,
    compare,
    parse_amount,
    parse_growth,
    parse_share,
    parse_tokens,
    quotes_of,
    render,
    study,
)
from merino.roi.offers import OfferKind
from merino.roi.words import dollars, percent_text, tokens

BOOK = PriceBook.load()
GUIDES = Scenario(model="o3", input_tokens=10_000_000, output_tokens=5_000_000)
AT_MS = 1_790_000_000_000
FORMATS = ("table", "json", "csv", "html", "md")


def usd(text: str) -> int:
    return parse_nanos(text)


def offer(name: str, kind: OfferKind, rate_in: str, rate_out: str, *, per_call: str = "0") -> Offer:
    rate_input, rate_output = usd(rate_in), usd(rate_out)
    rates = Rates(
        rate_input,
        rate_input,
        rate_input,
        rate_output,
        rate_input,
        rate_output,
        rate_input,
        usd(per_call),
    )
    return Offer(name, kind, {("m", None): OfferedPrice(name, "m", rates)})


def test_the_guides_example():
    """10 M input and 5 M output tokens of o3: $450.00 directly, $63.00 through the guide's relay,
    $387.00 (86 %) saved a month and $4,644.00 a year."""
    found = calculate(GUIDES, book=BOOK, at_ms=AT_MS)
    assert "guide-direct" == found.baseline.offer.name
    assert usd("450.00") == found.baseline.month_nanos
    assert usd("63.00") == found.relay.month_nanos
    assert usd("387.00") == found.relay.saved_month_nanos
    assert Fraction(86) == found.relay.saved_percent
    assert usd("4644.00") == found.relay.saved_year_nanos


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_the_guides_figures(form):
    """Table, JSON, CSV, HTML and Markdown carry the same five figures."""
    text = render(calculate(GUIDES, book=BOOK, at_ms=AT_MS), form)
    shown = (
        "450.00",
        "63.00",
        "387.00",
        "86",
        "4644.00" if form in ("json", "csv") else "4,644.00",
    )
    assert [] == [figure for figure in shown if figure not in text]


def test_the_list_price_stands_beside_the_guides_claim():
    """That the vendor's list price is below the guide's relay is said, not hidden."""
    found = calculate(GUIDES, book=BOOK, at_ms=AT_MS)
    [openai] = [line for line in found.lines if line.offer.name == "openai"]
    assert usd("60.00") == openai.month_nanos
    assert any("openai at its list price costs $60.00" in note for note in found.notes)


def test_prices_are_those_of_the_time():
    """Before June 2025 o3 cost OpenAI's earlier list price."""
    found = study(GUIDES.rows(), BOOK, relay="book", at_ms=1_746_000_000_000)  # 2025-04-30
    assert usd("300.00") == found.baseline.month_nanos


def test_providers_without_the_model_are_stood_for():
    """A provider that has no o3 is compared by the model the guide's table puts beside it."""
    found = study(GUIDES.rows(), BOOK, against=["anthropic", "gemini"], at_ms=AT_MS)
    models = {line.offer.name: line.offer.models for line in found.lines}
    assert "anthropic/claude-sonnet-4-5" == models["anthropic"]
    assert "gemini/gemini-2.5-flash" == models["gemini"]
    assert any("claude-sonnet-4-5 stands for o3" in note for note in found.notes)


def test_a_named_model_of_a_provider():
    """`provider/model` compares with just that model."""
    found = study(
        GUIDES.rows(), BOOK, relay="book", against=["anthropic/claude-opus-4-5"], at_ms=AT_MS
    )
    assert "anthropic/claude-opus-4-5" == found.baseline.offer.models


@pytest.mark.parametrize(
    ("against", "told"),
    [
        (["nobody"], "no provider 'nobody'"),
        (["anthropic/o3"], "no price of 'anthropic/o3'"),
    ],
)
def test_unknown_providers_and_models_are_refused(against, told):
    """The message names what the book does not have."""
    with pytest.raises(NotFound, match=told):
        study(GUIDES.rows(), BOOK, against=against, at_ms=AT_MS)


def test_the_guides_table_has_no_other_models():
    """Asking the guide's relay for a model it does not list is refused with what it lists."""
    rows = Scenario(model="gpt-4.1", input_tokens=1, output_tokens=1).rows()
    with pytest.raises(InvalidCall, match="it has o3, o3-mini, o4, o4-mini"):
        study(rows, BOOK, relay="guide", at_ms=AT_MS)


def test_the_own_books_relay_pays_its_markup():
    """`--relay book` is what accounts pay: the vendor's price times the factor."""
    book = PriceBook.load(account_factor="1.25")
    found = study(GUIDES.rows(), book, relay="book", at_ms=AT_MS)
    assert usd("60.00") == found.baseline.month_nanos
    assert usd("75.00") == found.relay.month_nanos
    assert usd("-15.00") == found.relay.saved_month_nanos


def test_cached_input_costs_less_where_the_provider_says_so():
    """With 30 % cached, OpenAI's o3 costs its cached rate for that part; the guide's has none."""
    scenario = Scenario(
        model="o3",
        input_tokens=10_000_000,
        output_tokens=5_000_000,
        cached_share=Decimal("0.3"),
        reasoning_share=Decimal("0.6"),
    )
    found = calculate(scenario, book=BOOK, at_ms=AT_MS)
    [openai] = [line for line in found.lines if line.offer.name == "openai"]
    assert usd("55.50") == openai.month_nanos  # 7 M at 2.00, 3 M at 0.50, 5 M at 8.00
    assert usd("63.00") == found.relay.month_nanos
    assert 3_000_000 == found.usage.reasoning_tokens


def test_growth_compounds_by_month():
    """Month k has (1 + g)^(k-1) of the first month's tokens, exactly."""
    rows = [UsageRow("m", Usage(1_000_000, 0))]
    pair = [offer("a", "direct", "10", "0"), offer("b", "relay", "1", "0")]
    found = compare(rows, pair, Horizon(months=3, growth=Decimal("0.5")))
    assert usd("47.50") == found.baseline.period_nanos  # 10 x (1 + 1.5 + 2.25)
    assert usd("42.75") == found.relay.saved_period_nanos


def test_break_even_with_fixed_costs():
    """Nine dollars saved a month, four of them fixed: a setup of 20 is paid at the end of month 4,
    and the fixed costs from four ninths of the volume on."""
    rows = [UsageRow("m", Usage(1_000_000, 0))]
    pair = [offer("a", "direct", "10", "0"), offer("b", "relay", "1", "0")]
    horizon = Horizon(hosting_nanos=usd("1"), people_nanos=usd("3"), setup_nanos=usd("20"))
    found = compare(rows, pair, horizon)
    assert 4 == found.break_even.month
    assert Fraction(4, 9) == found.break_even.volume
    assert usd("5.00") == found.relay.net_saved_month_nanos
    assert usd("40.00") == found.relay.net_saved_year_nanos


def test_no_break_even_where_fixed_costs_eat_the_savings():
    """A relay whose fixed costs are above its savings never pays; with growth it does one day."""
    rows = [UsageRow("m", Usage(1_000_000, 0))]
    pair = [offer("a", "direct", "10", "0"), offer("b", "relay", "1", "0")]
    assert compare(rows, pair, Horizon(people_nanos=usd("12"))).break_even.month is None
    grown = compare(rows, pair, Horizon(people_nanos=usd("12"), growth=Decimal("0.1")))
    # 9 x 1.1^(k-1) passes 12 in month 5; what was lost before is earned back in month 7.
    assert 7 == grown.break_even.month


def test_a_relay_that_costs_more_has_no_volume_that_helps():
    """Where the tokens cost no less, no volume covers fixed costs."""
    rows = [UsageRow("m", Usage(1_000_000, 0))]
    pair = [offer("a", "direct", "1", "0"), offer("b", "relay", "2", "0")]
    found = compare(rows, pair, Horizon(hosting_nanos=usd("1")))
    assert found.break_even.month is None
    assert found.break_even.volume is None
    assert "No volume helps" in render(found, "table")


def test_sensitivity_to_the_share_of_output():
    """All else equal, the total stays and only its split moves."""
    found = calculate(GUIDES, book=BOOK, at_ms=AT_MS)
    half = next(point for point in found.by_output_share if point.share == Fraction(1, 2))
    assert usd("562.50") == half.baseline_nanos  # 7.5 M at 15, 7.5 M at 60
    assert usd("78.75") == half.relay_nanos


def test_sensitivity_to_the_share_of_cached_input():
    """Only who has a cached rate gets cheaper."""
    found = study(GUIDES.rows(), BOOK, relay="book", at_ms=AT_MS)
    points = {point.share: point.baseline_nanos for point in found.by_cached_share}
    assert usd("60.00") == points[Fraction(0)]
    assert usd("52.50") == points[Fraction(1, 2)]


def test_long_contexts_are_priced_by_the_average_call():
    """Of summed calls, the step is chosen by a call's average input, never by the month's sum."""
    low, high = usd("1"), usd("2")
    step = Rates(high, high, high, 0, high, 0, high)
    rates = Rates(low, low, low, 0, low, 0, low, 0, ((200_000, step),))
    price = OfferedPrice("p", "m", rates)
    million = Usage(1_000_000, 0)
    assert usd("1") * PPM * 10**6 == price.cost(UsageRow("m", million, calls=10))
    assert usd("2") * PPM * 10**6 == price.cost(UsageRow("m", million, calls=2))
    assert usd("1") * PPM * 10**6 == price.cost(UsageRow("m", million))


def test_fees_per_call_count_by_call():
    """A fee of a cent costs ten dollars for a thousand calls."""
    rows = [UsageRow("m", Usage(0, 0), calls=1000)]
    pair = [offer("a", "direct", "1", "1", per_call="0.01"), offer("b", "relay", "1", "1")]
    assert usd("10.00") == compare(rows, pair).baseline.month_nanos


def test_rows_that_not_everybody_prices_are_left_out_everywhere():
    """Nobody is charged for what another offer could not price, and it is said."""
    rows = [
        UsageRow("o3", Usage(1_000_000, 0), calls=1, charged_nanos=usd("3")),
        UsageRow("mystery", Usage(5, 5), calls=1, charged_nanos=usd("9")),
    ]
    found = study(rows, BOOK, relay=AS_CHARGED, against=["openai/o3"], at_ms=AT_MS)
    assert usd("12.00") == found.relay.month_nanos
    found = study(rows, BOOK, relay=AS_CHARGED, at_ms=AT_MS)
    assert ["mystery"] == [row.model for row in found.left_out]
    assert usd("3.00") == found.relay.month_nanos


def test_real_calls_are_compared_with_what_was_charged():
    """Rows of the ledger stand at what accounts paid; 15 days of them are half a month."""
    rows = [UsageRow("o3", Usage(1_000_000, 100_000), calls=1, charged_nanos=usd("1.40"))]
    found = study(rows, BOOK, relay=AS_CHARGED, months_in_rows=Fraction(1, 2), at_ms=AT_MS)
    assert usd("5.60") == found.baseline.month_nanos
    assert usd("2.80") == found.relay.month_nanos
    assert () == found.by_output_share


def test_a_relays_own_list_of_prices_is_read():
    """OpenRouter's and LiteLLM's lists give dollars per token."""
    listed = {
        "data": [{"id": "openai/o3", "pricing": {"prompt": "0.000002", "completion": "8e-6"}}]
    }
    found = study(
        GUIDES.rows(), BOOK, relay="there", quotes=quotes_of(listed, "there"), at_ms=AT_MS
    )
    assert usd("60.00") == found.relay.month_nanos
    listed = {
        "data": [
            {
                "model_name": "o3",
                "model_info": {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6},
            },
            {"model_name": "free", "model_info": {}},
        ]
    }
    assert {"o3"} == set(quotes_of(listed, "there"))


@pytest.mark.parametrize(
    ("pricing", "calls", "expected"),
    [
        # 10M input and 5M output tokens at $2 and $8: $60.
        ({"prompt": "2e-6", "completion": "8e-6", "request": "0.1"}, 2_000, "260.00"),
        ({"prompt": "2e-6", "completion": "8e-6", "request": "0"}, 2_000, "60.00"),
        ({"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
          "input_cost_per_request": 0.01}, 2_000, "80.00"),
        ({"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
          "input_cost_per_token_above_200k_tokens": 4e-6,
          "output_cost_per_token_above_200k_tokens": 16e-6}, 40, "120.00"),
        ({"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
          "input_cost_per_token_above_200k_tokens": 4e-6}, 40, "80.00"),
        ({"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
          "input_cost_per_token_above_128k_tokens": 3e-6,
          "input_cost_per_token_above_200k_tokens": 4e-6}, 60, "70.00"),
        ({"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
          "input_cost_per_token_above_200k_tokens": 4e-6}, 2_000, "60.00"),
    ],
)  # fmt: skip
def test_fees_per_call_and_long_contexts_of_a_relays_list_count(pricing, calls, expected):
    """A relay looks no cheaper than it is."""
    name = "pricing" if "prompt" in pricing else "model_info"
    quotes = quotes_of({"data": [{"id": "o3", name: pricing}]}, "there")
    rows = Scenario(
        model="o3", input_tokens=10_000_000, output_tokens=5_000_000, calls=calls
    ).rows()
    found = study(rows, BOOK, relay="there", quotes=quotes, at_ms=AT_MS)
    assert found.relay is not None
    assert usd(expected) == found.relay.month_nanos


@pytest.mark.parametrize(
    ("tier", "calls", "expected"),
    [
        (None, 2_000, "60.00"),
        ("batch", 2_000, "30.00"),
        ("flex", 2_000, "40.00"),
        ("priority", 2_000, "60.00"),  # not listed: the plain ones stand
        (None, 40, "80.00"),
        ("batch", 40, "50.00"),
        ("flex", 40, "40.00"),
    ],
)
def test_the_tiers_of_a_relays_list_count(tier, calls, expected):
    """Each with its own long contexts; what is not listed is told."""
    listed = {
        "input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
        "input_cost_per_token_above_200k_tokens": 4e-6,
        "input_cost_per_token_batches": 1e-6, "output_cost_per_token_batches": 4e-6,
        "input_cost_per_token_above_200k_tokens_batches": 3e-6,
        "input_cost_per_token_flex": 1.5e-6, "output_cost_per_token_flex": 5e-6,
        "input_cost_per_token_priority": 9e-6,
    }  # fmt: skip
    quotes = quotes_of({"data": [{"id": "o3", "model_info": listed}]}, "there")
    plan = Scenario(
        model="o3", input_tokens=10_000_000, output_tokens=5_000_000, calls=calls, tier=tier
    )
    found = study(plan.rows(), BOOK, relay="there", quotes=quotes, at_ms=AT_MS)
    assert found.relay is not None
    assert usd(expected) == found.relay.month_nanos
    assert (tier == "priority") == any("no prices of tier" in note for note in found.notes)


def test_a_tier_without_prices_is_told():
    """What stands in for it is named, at the book and at a relay's list."""
    rows = Scenario(model="deepseek-chat", input_tokens=10, output_tokens=10, tier="batch").rows()
    quotes = quotes_of(
        {"data": [{"id": "deepseek-chat", "pricing": {"prompt": "2e-6", "completion": "8e-6"}}]},
        "there",
    )
    found = study(rows, BOOK, relay="there", quotes=quotes, at_ms=AT_MS)
    assert 2 == sum("batch" in note for note in found.notes)


@pytest.mark.parametrize("listed", [None, 5, [], {"data": None}, {"data": [1, {"id": 3}]}])
def test_lists_without_prices_give_none(listed):
    """What is no list of prices yields no quotes, whatever it is."""
    assert {} == quotes_of(listed, "x")


@given(
    input_tokens=st.integers(0, 10**12),
    output_tokens=st.integers(0, 10**12),
    cached=st.integers(0, 100),
    rate_in=st.integers(0, 10**12),
    rate_out=st.integers(0, 10**12),
)
def test_a_months_cost_is_the_exact_rational_rounded_once(
    input_tokens, output_tokens, cached, rate_in, rate_out
):
    """For any usage and rates, the figure is half up of the exact quotient."""
    rates = Rates(rate_in, rate_in // 2, rate_in, rate_out, rate_in, rate_out, rate_in)
    scenario = Scenario(
        model="m",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_share=Decimal(cached) / 100,
    )
    [row] = scenario.rows()
    priced = Offer("a", "direct", {("m", None): OfferedPrice("a", "m", rates)})
    found = compare([row], [priced])
    cached_tokens = row.usage.cached_tokens
    exact = Fraction(
        (input_tokens - cached_tokens) * rate_in
        + cached_tokens * (rate_in // 2)
        + output_tokens * rate_out,
        10**6,
    )
    assert abs(exact - found.baseline.month_nanos) <= Fraction(1, 2)


@given(st.sampled_from(FORMATS), st.text(max_size=30))
def test_reports_carry_any_model_name(form, name):
    """Whatever a model is called, JSON stays JSON and HTML stays well formed."""
    model = name.replace("\0", "") or "m"
    prices: dict[tuple[str, str | None], OfferedPrice] = {
        (model, None): OfferedPrice("p", model, Rates(1, 1, 1, 1, 1, 1, 1))
    }
    rows = [UsageRow(model, Usage(10**6, 10**6))]
    pair = [Offer("<a&b>", "direct", prices), Offer('"r"', "relay", prices)]
    text = render(compare(rows, pair), form)
    if form == "json":
        assert "<a&b>" == json.loads(text)["baseline"]
    if form == "html":
        assert "<a&b>" not in text


def test_the_page_needs_nothing_else():
    """The HTML names no address and runs no script, and its drawings are well formed."""
    page = render(calculate(GUIDES, book=BOOK, at_ms=AT_MS), "html")
    assert "http" not in page
    assert "<script" not in page
    drawing = page[page.index('<ul class="bars"') : page.index("</ul>") + 5]
    bars = list(ET.fromstring(drawing).iter("rect"))
    assert 3 == len(bars)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10M", 10_000_000), ("2.5k", 2500), ("1_000", 1000), ("3b", 3_000_000_000), ("0", 0)],
)
def test_numbers_of_tokens(text, expected):
    """Units are decimal."""
    assert expected == parse_tokens(text)


@pytest.mark.parametrize(
    "text", ["1,000,000", "1.000.000", "1 000 000", "1'000'000", "1\u202f000\u202f000", "1_000_000"]
)
def test_thousands_are_grouped_as_people_group_them(text):
    """What reads the same everywhere is read."""
    assert 1_000_000 == parse_tokens(text)


@given(st.integers(1, 10**12), st.sampled_from(",._' "), st.sampled_from(["", "k", "M"]))
def test_a_grouped_number_is_read_right_or_refused(number, mark, unit):
    """Never as another number."""
    text = f"{number:,}".replace(",", mark)
    try:
        read = parse_tokens(text + unit)
    except InvalidCall:
        return
    assert number * {"": 1, "k": 10**3, "M": 10**6}[unit] == read


@given(st.integers(0, 9999), st.integers(0, 10**5), st.sampled_from(["", "k", "M"]))
def test_a_decimal_comma_is_never_dropped(whole, part, unit):
    """A German, French or Spanish decimal number is refused, unless it is an English group."""
    text = f"{whole},{part}"
    try:
        read = parse_tokens(text + unit)
    except InvalidCall:
        return
    assert not unit
    assert len(str(part)) == 3
    assert int(f"{whole}{part}") == read


@pytest.mark.parametrize(
    "text",
    [
        "2,5M",
        "1,5k",
        "10,00",
        "1,0,0,0",
        "12,34",
        "1.000",
        "2.500M",
        "2,500k",
        "1,00,000",
        "1_",
        "1 0",
    ],
)
def test_what_means_another_number_elsewhere_is_refused(text):
    """A guess would be wrong by a factor of ten or a thousand."""
    with pytest.raises(InvalidCall, match="not the same one everywhere"):
        parse_tokens(text)


@pytest.mark.parametrize("text", ["", "-1", "nan", "1.0001k", "1e3", "10X", "9999999999B", "0x10"])
def test_bad_numbers_of_tokens_are_refused(text):
    """Negative, fractional, endless and foreign ones."""
    with pytest.raises(InvalidCall, match="number of tokens"):
        parse_tokens(text)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "NaN", "inf", "x", "101%", "1e-99"])
def test_bad_shares_are_refused(text):
    """A share is from 0 to 1."""
    with pytest.raises(InvalidCall, match="--cached-share"):
        parse_share(text, "--cached-share")


@pytest.mark.parametrize("text", ["-1", "-100%", "11", "Infinity", "-"])
def test_bad_growth_is_refused(text):
    """Growth is above -100 % and at most 1000 % a month."""
    with pytest.raises(InvalidCall, match="growth"):
        parse_growth(text)


@pytest.mark.parametrize("text", ["1", "5", "1.05", "10", "05"])
def test_growth_without_its_percent_sign_is_refused_where_it_may_be_percents(text):
    """`5` is 500 %, and most who write it mean 5 %."""
    with pytest.raises(InvalidCall, match="with its percent sign"):
        parse_growth(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("40", "40"), ("40.5", "40.5"), ("0.125", "0.125"), ("1,250", "1250"), ("1'250.75", "1250.75"),
     ("1.250,75", "1250.75"), ("1 250", "1250")],
)  # fmt: skip
def test_amounts_are_read_as_their_writer_meant_them(text, expected):
    """Grouped in threes or not."""
    assert usd(expected) == parse_amount(text)


@pytest.mark.parametrize("text", ["1.250", "40,50", "1,2", "-1", "x", "1e400", "", "$40"])
def test_amounts_that_may_be_others_are_refused(text):
    """`1.250` is a thousand times as much where points group."""
    with pytest.raises(ValueError, match=r"amount|negative|large"):
        parse_amount(text)


def test_shares_and_growth_in_percent():
    """`30%` is 0.3."""
    assert Decimal(5) == parse_growth("500%")
    assert Decimal("0.99") == parse_growth("0.99")
    assert Decimal("0.3") == parse_share("30%", "x")
    assert Decimal("0.05") == parse_growth("5%")


@pytest.mark.parametrize(
    "fields",
    [
        {"input_tokens": -1},
        {"output_tokens": 10**16},
        {"cached_share": Decimal("NaN")},
        {"reasoning_share": Decimal(2)},
        {"calls": -1},
    ],
)
def test_impossible_scenarios_are_refused(fields):
    """Also through the Python API."""
    known = {"model": "o3", "input_tokens": 1, "output_tokens": 1}
    with pytest.raises(InvalidCall):
        Scenario(**{**known, **fields})


@pytest.mark.parametrize(
    "fields", [{"months": 0}, {"months": 601}, {"growth": Decimal(-1)}, {"hosting_nanos": -1}]
)
def test_impossible_horizons_are_refused(fields):
    """Also through the Python API."""
    with pytest.raises(InvalidCall):
        Horizon(**fields)


def test_figures_as_people_read_them():
    """Cents, thousands, tiny amounts and near-whole percents."""
    assert "$4,644.00" == dollars(usd("4644"))
    assert "-$0.13" == dollars(usd("-0.125"))
    assert "$0.0012" == dollars(usd("0.0012"))
    assert "86 %" == percent_text(Fraction(86))
    assert "99.9 %" == percent_text(Fraction(999, 10))
    assert "-" == percent_text(None)
    assert "2.5M" == tokens(2_500_000)


def test_a_sensitivity_that_is_none_is_one_sentence():
    """Where neither has a price for cached input, no table of equal rows is shown."""
    guide = calculate(Scenario(model="o3", input_tokens=10**7, output_tokens=5 * 10**6))
    for form in ("table", "md", "html"):
        text = render(guide, form)
        assert "The share of cached input changes nothing" in text
        assert "another share of output" in text
