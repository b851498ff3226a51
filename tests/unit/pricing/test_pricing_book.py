"""Looking up prices, and refusing bad price files."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from merino.domain.errors import Misconfigured
from merino.domain.usage import Usage
from merino.pricing.book import PriceBook
from merino.pricing.cost import Cost, cost


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


def load(tmp_path: Path, text: str, **more: Any) -> PriceBook:
    file = tmp_path / "own.toml"
    file.write_text(text, "utf-8")
    return PriceBook.load([file], packaged=False, **more)


NOW = ms("2026-11-24T12:00")


def test_the_price_of_its_day_is_found(book):
    """A row holds from midnight UTC of its date until the next one."""
    ids = [book.find("openai", "o3", ms(t)).id for t in ("2025-06-09T23:59:59", "2025-06-10T00:00")]
    assert ["openai/o3@2025-04-16", "openai/o3@2025-06-10"] == ids
    assert book.find("openai", "o3", ms("2025-04-15T12:00")) is None


def test_a_dated_snapshot_costs_what_its_base_costs(book):
    """Snapshots fall back to their base name, unless they have a row of their own."""
    assert "openai/o3@2025-06-10" == book.find("openai", "o3-2025-04-16", NOW).id
    assert "openai/gpt-4o-2024-05-13@2024-05-13" == book.find("openai", "gpt-4o-2024-05-13", NOW).id
    snapshot = book.find("anthropic", "claude-sonnet-4-5-20250929", NOW)
    assert "claude-sonnet-4-5" == snapshot.model


def test_unknown_models_have_no_price(book):
    """Neither an unknown model nor another provider's model is priced."""
    assert book.find("openai", "o33", NOW) is None
    assert book.find("nobody", "o3", NOW) is None
    assert book.find("openai", "o3-mini-high", NOW) is None


def test_tiers_never_undercharge(book):
    """A cheap tier without a row costs the standard price, a dear one is unpriced; providers
    without tiers ignore them."""
    assert "openai/o3:flex@2025-06-10" == book.find("openai", "o3", NOW, "flex").id
    assert "openai/o3@2025-06-10" == book.find("openai", "o3", NOW, "auto").id
    assert "openai/o1@2024-12-17" == book.find("openai", "o1", NOW, "flex").id
    assert book.find("openai", "o1", NOW, "priority") is None
    assert book.find("simulator", "o3", NOW, "priority") is not None


def test_peak_hours_have_their_own_price(book):
    """DeepSeek's peak hours hold on weekdays within their hours, the end excluded."""
    times = ["2026-11-24T05:59", "2026-11-24T06:00", "2026-11-24T10:00", "2026-11-22T06:00"]
    rates = [book.find("deepseek", "deepseek-flash", ms(t)).upstream.input for t in times]
    assert [150_000_000, 300_000_000, 150_000_000, 150_000_000] == rates


def test_the_simulator_costs_nothing_and_charges_the_guides_price(book):
    """One million tokens each way through simulated o3 cost the account 2.10 and 8.40."""
    price = book.find("simulator", "sim/o3", 0)
    assert Cost(10_500_000_000, 0) == cost(Usage(10**6, 10**6), price)
    assert price == book.find("simulator", "o3", NOW)


def test_every_packaged_row_is_sound(book):
    """No packaged price is negative, and each has an id of its own."""
    rows = list(book.prices())
    assert len({price.id for price in rows}) == len(rows)
    assert all(
        price.upstream.input <= price.upstream.output or not price.upstream.output for price in rows
    )


def test_own_files_replace_packaged_rows_and_overrides_replace_both(tmp_path):
    """An entry replaces every row of its model from sources before its own."""
    file = tmp_path / "own.toml"
    file.write_text('provider = "openai"\n[[price]]\nmodel = "o3"\ninput = 1\noutput = 2\n')
    own = PriceBook.load([tmp_path])
    assert 10**9 == own.find("openai", "o3", 0).upstream.input
    over = {"provider": "openai", "model": "o3", "input": "7", "output": 9.5}
    both = PriceBook.load([file], overrides=[over]).find("openai", "o3", 0)
    assert (7 * 10**9, 9_500_000_000) == (both.upstream.input, both.upstream.output)


def test_account_prices_come_from_rates_factor_or_default(tmp_path):
    """A row's own account rates or factor win over the default markup."""
    book = load(
        tmp_path,
        """
        provider = "p"
        [[price]]
        model = "plain"
        input = 1.00
        output = 2.00
        [[price]]
        model = "factor"
        input = 1.00
        output = 2.00
        account_factor = 1.5
        [[price]]
        model = "own"
        input = 1.00
        output = 2.00
        account = { input = 3.00, output = 4.00, per_call = 0.001 }
        """,
        account_factor=Decimal("1.2"),
    )
    usage = Usage(10**6, 10**6)
    found = [book.find("p", m, 0) for m in ("plain", "factor", "own")]
    costs = [cost(usage, price) for price in found if price is not None]
    billion = 10**9
    expected = [
        Cost(36 * billion // 10, 3 * billion),
        Cost(45 * billion // 10, 3 * billion),
        Cost(7_001_000_000, 3 * billion),
    ]
    assert expected == costs


def test_rates_left_out_follow_the_plain_rates(tmp_path):
    """Without rates of their own, special tokens cost what plain ones do, also above a step."""
    book = load(
        tmp_path,
        'provider = "p"\n[[price]]\nmodel = "m"\ninput = 1\noutput = 2\naudio_input = 9\n'
        "steps = [{ above_input_tokens = 100, input = 4 }]\n",
    )
    rates = book.find("p", "m", 0).upstream
    assert (10**9, 10**9, 2 * 10**9) == (rates.cached, rates.image_input, rates.audio_output)
    step = rates.at(101)
    assert (4 * 10**9, 4 * 10**9, 9 * 10**9, 2 * 10**9) == (
        step.input, step.cached, step.audio_input, step.output,
    )  # fmt: skip


def test_the_id_names_provider_model_tier_and_date(tmp_path):
    """Ids are stable text."""
    book = load(
        tmp_path,
        'provider = "p"\n[[price]]\nmodel = "m"\ntier = "flex"\nvalid_from = 2025-01-02\n'
        "input = 1\noutput = 2\n",
    )
    [price] = book.prices()
    assert ("p/m:flex@2025-01-02", date(2025, 1, 2)) == (price.id, price.valid_from)


HEAD = 'provider = "p"\n[[price]]\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "input = 1", ["line 2", "'m'", "output", "missing"]),
        (HEAD + 'input = "abc"\noutput = 1', ["line 2", "input = 'abc'", "decimal"]),
        (HEAD + "input = -1\noutput = 1", ["input = '-1'", "between"]),
        (HEAD + "input = nan\noutput = 1", ["input"]),
        (HEAD + "input = true\noutput = 1", ["input = 'True'", "amount in dollars"]),
        (HEAD + "input = 1\noutput = 0.00000000001", ["output", "nine decimals"]),
        (HEAD + "input = 1\noutput = 1\ninptu = 3", ["inptu = '3'", "unknown key"]),
        (
            HEAD + 'input = 1\noutput = 1\nvalid_from = "soon"',
            ["valid_from = 'soon'", "2025-06-10"],
        ),
        (HEAD + "input = 1\noutput = 1\nhours_utc = ['9-10']", ["hours_utc = '9-10'"]),
        (HEAD + "input = 1\noutput = 1\ntier = 'default'", ["tier = 'default'"]),
        (HEAD + "input = 1\noutput = 1\naccount_factor = -2", ["account_factor = '-2'"]),
        (HEAD + "input = 1\noutput = 1\naccount = 3", ["account = '3'", "table"]),
        (HEAD + "input = 1\noutput = 1\nsteps = [{ input = 1 }]", ["above_input_tokens"]),
        (
            HEAD + "input = 1\noutput = 1\n" + HEAD[15:] + "input = 1\noutput = 1",
            ["line 6", "twice"],
        ),
        ("[[price]]\nmodel = 'm'\ninput = 1\noutput = 1", ["provider"]),
        ("provider = 'p'\n[[price]]\ninput = 1", ["model"]),
        ("provider = 'p'\nprices = 1", ["prices", "unknown key"]),
        ("provider = 3", ["provider = '3'"]),
        ("price = 3", ["price", "[[price]]"]),
        ("provider = \n", ["not valid TOML", "line 1"]),
    ],
)
def test_a_bad_price_file_is_refused_by_name(tmp_path, text, words):
    """The message names the file, where known the line, the key and the value."""
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path, text)
    assert all(word in caught.value.message for word in ["own.toml", *words]), caught.value.message


def test_a_missing_price_file_is_refused(tmp_path):
    """A path without a file is a mistake, not an empty book."""
    with pytest.raises(Misconfigured, match=r"nowhere\.toml"):
        PriceBook.load([tmp_path / "nowhere.toml"])
