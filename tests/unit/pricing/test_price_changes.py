"""Reviews of price data: what differs, what is doubtful, what another list proposes."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import pytest

from merino.cli.root import run
from merino.domain.errors import Misconfigured
from merino.pricing.book import PriceBook
from merino.pricing.changes import doubts, moment_changes, row_changes
from merino.pricing.genai import accepted_differences, propose

JUNE_1_MS = 1_748_779_200_000
JULY_1_MS = 1_751_371_200_000


def book(*entries: dict) -> PriceBook:
    rows = [{"provider": "p", "model": "m", "input": 1, "output": 4, **entry} for entry in entries]
    return PriceBook.load(overrides=rows, packaged=False)


def test_changed_rates_are_named():
    """A row with another rate, a step more and a fee more is told rate by rate."""
    before = book({"cached": 1})
    after = book(
        {"cached": "0.5", "per_call": "0.01", "steps": [{"above_input_tokens": 9, "input": 2}]}
    )
    told = [str(change) for change in row_changes(before, after)]
    assert "changed p/m@1970-01-01 cached: 1.00 -> 0.50" in told
    assert "changed p/m@1970-01-01 per_call: 0.00 -> 0.01" in told
    assert "changed p/m@1970-01-01 input above 9 input tokens: - -> 2.00" in told


def test_added_and_removed_rows():
    """Rows are known by their ids."""
    before, after = book({"model": "old"}), book({"model": "new"})
    assert ["added p/new@1970-01-01", "removed p/old@1970-01-01"] == [
        str(change) for change in row_changes(before, after)
    ]


def test_equal_books_do_not_differ():
    """No change without a difference."""
    packaged = PriceBook.load()
    assert [] == row_changes(packaged, PriceBook.load())
    assert [] == moment_changes(packaged, JULY_1_MS, packaged, JULY_1_MS)


def test_what_changed_between_two_days():
    """OpenAI's o3 fell from 10 / 40 to 2 / 8 dollars in June 2025."""
    packaged = PriceBook.load()
    told = [str(each) for each in moment_changes(packaged, JUNE_1_MS, packaged, JULY_1_MS)]
    assert "changed openai/o3@2025-06-10 input: 10.00 -> 2.00" in told
    assert "changed openai/o3@2025-06-10 output: 40.00 -> 8.00" in told


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"cached": 2}, "cached input costs more"),
        ({"output": "0.5"}, "output costs less"),
        ({"account_factor": "0.5"}, "accounts pay less"),
        ({"account": {"input": 1, "output": 1}}, "accounts pay less"),
    ],
)
def test_doubtful_rows_are_found(entry, why):
    """Allowed, and rarely meant."""
    assert any(why in doubt.why for doubt in doubts(book(entry)))


def test_a_misplaced_decimal_is_found():
    """A rate ten times the one before it is worth a look."""
    found = list(doubts(book({}, {"input": 10, "output": 40, "valid_from": date(2026, 1, 1)})))
    assert 2 == len([doubt for doubt in found if "moves by a factor of 10" in doubt.why])


def test_the_packaged_book_has_no_doubts():
    """What is shipped was looked at."""
    assert [] == list(doubts(PriceBook.load()))


def test_the_packaged_book_and_the_library_agree():
    """genai-prices proposes nothing for models we have, on the day of its data."""
    proposal = propose(
        PriceBook.load(), ["openai", "anthropic", "gemini"], date(2026, 11, 24), with_new=False
    )
    accepted = accepted_differences()
    left = [each for each in proposal.changes if not any(a.covers(each) for a in accepted)]
    assert [] == left


def test_a_proposal_is_a_price_file_that_can_be_read(tmp_path):
    """What is proposed, written and added to the book leaves nothing to propose."""
    stale = PriceBook.load(
        overrides=[{"provider": "openai", "model": "o3", "input": 99, "output": 99}]
    )
    on = date(2026, 11, 24)
    proposal = propose(stale, ["openai"], on)
    assert "o3" in {entry["model"] for entry in proposal.entries}
    path = tmp_path / "proposed.toml"
    path.write_text(proposal.toml())
    assert () == propose(PriceBook.load([path]), ["openai"], on).changes


def test_an_unknown_provider_of_the_library():
    """The message lists what it has."""
    with pytest.raises(Misconfigured, match="no provider 'nobody'"):
        propose(PriceBook.load(), ["nobody"], date(2026, 11, 24))


def prices(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = run(["prices", *arguments])
    return code, output.getvalue()


def test_the_commands(tmp_path, monkeypatch):
    """show, diff, import and check as their users meet them."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.toml"
    own.write_text(
        'provider = "openai"\n[[price]]\nmodel = "o3"\nvalid_from = 2025-06-10\n'
        "input = 2.00\ncached = 9.00\noutput = 8.00\n"
    )
    code, text = prices("show", "openai/o3", "--on", "2025-07-01", "--json")
    assert (0, "2.00") == (code, json.loads(text)["data"][0]["input"])
    code, text = prices("diff", str(own), "--json")
    changed = {each["price"]: each for each in json.loads(text)["data"] if each["rate"] == "cached"}
    assert (0, "9.00") == (code, changed["openai/o3@2025-06-10"]["after"])
    code, text = prices("check", str(own), "--strict")
    assert 1 == code
    assert "openai/o3@2025-06-10: upstream: cached input costs more than input" in text
    code, text = prices("import", "genai-prices", "--output", "new.toml")
    assert 0 == code
    assert (tmp_path / "new.toml").read_text().startswith("# Proposed from genai-prices")
    own.write_text('provider = "p"\n[[price]]\nmodel = "m"\ninput = "nan"\noutput = 1\n')
    code, text = prices("check", str(own))
    assert 2 == code
    assert "own.toml line 2" in text
    assert (2, "merino: The price book has no 'nothing'; merino prices list shows all\n") == prices(
        "show", "nothing"
    )


def test_a_package_of_another_make_is_named_with_its_version(monkeypatch):
    """An older or a newer one may keep its prices otherwise; that is no fault of the book."""

    class Model:
        id = "o3"

        def get_prices(self, at):
            return SimpleNamespace(input_mtok=Decimal(2), output_mtok=Decimal(8))

    known = [SimpleNamespace(id="openai", models=[Model()])]
    monkeypatch.setattr("genai_prices.data.providers", known)
    with pytest.raises(
        Misconfigured, match=r"genai-prices [0-9.]+ cannot be read .*price_variants"
    ):
        propose(PriceBook.load(), ["openai"], date(2026, 11, 24))
    monkeypatch.delattr("genai_prices.data.providers")
    with pytest.raises(Misconfigured, match=r"genai-prices [0-9.]+ cannot be read"):
        propose(PriceBook.load(), ["openai"], date(2026, 11, 24))
