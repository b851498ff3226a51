"""Tables on a terminal: they fit it, numbers stay whole, and pipes get what they always got."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.in_process import SIMULATED, InProcess, in_process, run_command
from tests.terminals import Tty, terminal

from merino.cli.columns import Column
from merino.cli.figures import duration, share, shortened
from merino.cli.layout import GAP, Fit, Need, fit
from merino.cli.options import Month
from merino.cli.output import in_own_currency, print_fields, print_table
from merino.cli.root import run
from merino.cli.sorting import By, sort_rows
from merino.cli.terminal import WIDTH_DEFAULT, Terminal, terminal_of
from merino.domain.money import format_nanos

COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id", whole=True, spare=1),
    Column("CALLS", "calls", is_number=True, total="calls"),
    Column("CHARGED", in_own_currency("charged"), is_number=True, total="charged_nanos"),
    Column("MEMO", "memo", spare=2),
)
ROW = {"name": "ada", "id": "key_1", "calls": 1, "charged": "1.00", "charged_nanos": 10**9}
TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=["Cs"]),
        st.sampled_from("研究所ñ ab\N{COMBINING ACUTE ACCENT}👍🏽"),
    ),
    max_size=50,
)
NANOS = st.integers(-(10**18), 10**18)


def row(**more: Any) -> dict[str, Any]:
    return {**ROW, "currency": "USD", **more}


def rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    def made(name: str, nanos: int, calls: int, currency: str, memo: str | None) -> dict[str, Any]:
        amount = {"charged": format_nanos(nanos), "charged_nanos": nanos}
        return {**ROW, **amount, "name": name, "calls": calls, "currency": currency, "memo": memo}

    return st.lists(
        st.builds(
            made,
            TEXTS,
            NANOS,
            st.integers(0, 10**12),
            st.sampled_from(["USD", "EUR"]),
            st.none() | TEXTS,
        ),
        min_size=1,
        max_size=6,
    )


def drawn(found: list[dict[str, Any]], columns: int = 100, **environ: str) -> Tty:
    with terminal(columns, **environ) as tty:
        print_table(found, COLUMNS)
    return tty


@settings(deadline=None)
@given(found=rows(), columns=st.integers(30, 200))
def test_no_line_is_wider_than_the_terminal_and_no_number_breaks(found, columns) -> None:
    """Whatever the texts are; each number stands in one piece, and wide characters count double."""
    lines = drawn(found, columns).said.splitlines()
    assert max(map(cell_len, lines)) <= columns
    words = " ".join(lines).split()
    for each in found:
        assert f"{each['calls']:,}" in words
        assert shortened(in_own_currency("charged")(each) or "") in words


@settings(deadline=None)
@given(found=rows())
def test_a_pipe_gets_what_it_always_got(found) -> None:
    """Whole amounts without thousands, every column, no colour, no sums."""
    with redirect_stdout(io.StringIO()) as pipe:
        print_table(found, COLUMNS)
    titles, *lines = pipe.getvalue().split("\n")[:-1]
    assert ["NAME", "ID", "CALLS", "CHARGED", "MEMO"] == titles.split()
    assert len(found) == len(lines)
    for line, each in zip(lines, found, strict=True):
        assert (in_own_currency("charged")(each) or "?") in line
    assert "\x1b" not in pipe.getvalue()


@settings(deadline=None)
@given(
    needs=st.lists(
        st.builds(
            lambda least, more, spare: Need(least + more, least, spare),
            *(st.integers(1, 30), st.integers(0, 60), st.integers(0, 3)),
        ),
        min_size=1,
        max_size=9,
    ),
    width=st.integers(1, 200),
)
def test_columns_fit_as_well_as_they_can(needs, width) -> None:
    """None gets less than its least; what is free is used; what must be shown is shown."""
    found = fit(needs, width)
    musts = [at for at, each in enumerate(needs) if not each.spare]
    if found is None:
        least = sum(needs[at].least for at in musts) + GAP * (len(musts) - 1)
        assert not musts or least > width
        return
    assert {*musts} <= {*found.shown}
    taken = sum(found.widths) + GAP * (len(found.shown) - 1)
    assert taken <= width
    for at, here in zip(found.shown, found.widths, strict=True):
        assert needs[at].least <= here <= needs[at].whole
    whole = sum(needs[at].whole for at in found.shown) + GAP * (len(found.shown) - 1)
    assert taken == min(width, whole)


def test_the_spare_go_first_and_the_widest_text_gives_most() -> None:
    """The highest rank goes, of equals the one at the right; then texts are cut, the widest first."""
    needs = [Need(10, 10), Need(8, 8, 1), Need(9, 9, 2), Need(40, 12), Need(20, 12)]
    assert Fit((0, 1, 3, 4), (10, 8, 16, 16)) == fit(needs, 10 + 8 + 32 + 3 * GAP)
    assert Fit((0, 3, 4), (10, 12, 12)) == fit(needs, 10 + 24 + 2 * GAP)
    assert None is fit(needs, 10)


def test_sums_stand_below_each_currency_alone() -> None:
    """One line for each currency; a single row needs none."""
    found = [row(), row(charged_nanos=5 * 10**8), row(currency="EUR")]
    *_, euros, dollars = drawn(found).said.splitlines()
    assert ["total", "EUR", "1", "€1.00"] == euros.split()
    assert ["total", "USD", "2", "$1.50"] == dollars.split()
    assert "total" not in drawn([row()]).said


def test_what_finds_no_room_is_named() -> None:
    """Columns are left out with a word on it; where not even the rest fits, it is a field a line."""
    long = row(id="key_0123456789abcdef0123456789", memo="m" * 30)
    assert "no room for MEMO:" in drawn([long], 62).said
    assert "no room for ID, MEMO:" in drawn([long], 45).said
    cards = drawn([{**long, "name": "Ada, a name of many words"}], 24).said.splitlines()
    assert ["name     Ada, a name of", "         many words"] == cards[:2]
    assert "charged  $1.00" in cards


def test_what_is_not_there_is_a_dash() -> None:
    """Nothing and an empty text alike."""
    line = drawn([row(name="", memo=None)]).said.splitlines()[2]
    assert "-" == line[0] == line[-1]


def test_fields_wrap_beside_their_name() -> None:
    """What goes on stands below itself; what fits nowhere beside stands below its name."""
    with terminal(30) as tty:
        print_fields(
            [("memo", "one two three four five six"), ("address", "h" * 28), ("rpm", 2_000_000)]
        )
    assert [
        "memo     one two three four",
        "         five six",
        "address",
        "  " + "h" * 28,
        "rpm      2,000,000",
    ] == tty.said.splitlines()


@pytest.mark.parametrize(
    ("environ", "is_terminal", "expected"),
    [
        ({}, True, Terminal(WIDTH_DEFAULT, has_colour=True, is_live=True)),
        ({"COLUMNS": "120"}, True, Terminal(120, has_colour=True, is_live=True)),
        ({"COLUMNS": "wide"}, True, Terminal(WIDTH_DEFAULT, has_colour=True, is_live=True)),
        ({"COLUMNS": "3"}, True, Terminal(20, has_colour=True, is_live=True)),
        ({"NO_COLOR": "1"}, True, Terminal(WIDTH_DEFAULT, has_colour=False, is_live=True)),
        ({"NO_COLOR": ""}, True, Terminal(WIDTH_DEFAULT, has_colour=True, is_live=True)),
        ({"TERM": "dumb"}, True, Terminal(WIDTH_DEFAULT, has_colour=False, is_live=False)),
        ({"FORCE_COLOR": "0"}, True, Terminal(WIDTH_DEFAULT, has_colour=False, is_live=True)),
        ({}, False, None),
        ({"COLUMNS": "120"}, False, None),
        ({"FORCE_COLOR": ""}, False, None),
        ({"FORCE_COLOR": "0"}, False, None),
        ({"FORCE_COLOR": "1"}, False, Terminal(WIDTH_DEFAULT, has_colour=True, is_live=False)),
        (
            {"FORCE_COLOR": "1", "NO_COLOR": "1"},
            False,
            Terminal(WIDTH_DEFAULT, has_colour=False, is_live=False),
        ),
    ],
    ids=str,
)
def test_what_the_environment_says_of_a_terminal(
    monkeypatch, environ, is_terminal, expected
) -> None:
    """NO_COLOR wins over FORCE_COLOR, an empty one is none, COLUMNS is believed if it is a number."""
    monkeypatch.setattr("os.get_terminal_size", lambda _: (_ for _ in ()).throw(OSError()))
    assert expected == terminal_of(Tty() if is_terminal else io.StringIO(), environ)


def test_colours_are_only_where_they_are_wanted() -> None:
    """A table in colour and one without say the same."""
    plain = drawn([row(), row()], NO_COLOR="1")
    assert "\x1b" not in plain.getvalue()
    assert "\x1b" not in drawn([row()], TERM="dumb").getvalue()
    assert "\x1b" in (coloured := drawn([row(), row()])).getvalue()
    assert plain.getvalue() == coloured.said


@settings(deadline=None)
@given(nanos=NANOS, sign=st.sampled_from(["$", "€", "CN¥", ""]))
def test_amounts_are_short_and_true(nanos, sign) -> None:
    """To the cent, or to three digits below one; what is not nothing never looks like nothing."""
    exact = format_nanos(abs(nanos))
    minus = "-" if nanos < 0 else ""
    text = shortened(f"{minus}{sign}{exact}")
    assert text.startswith(minus + sign)
    shown = Decimal(text.replace(sign, "").replace(",", ""))
    assert abs(shown - Decimal(nanos) / 10**9) <= max(
        abs(Decimal(nanos)) / 10**9 * Decimal("0.005"), Decimal("0.005") * (abs(nanos) >= 10**9)
    )
    assert (nanos == 0) == (shown == 0)


@pytest.mark.parametrize(
    ("exact", "expected"),
    [
        ("$1234567.891", "$1,234,567.89"),
        ("$0.00038203", "$0.000382"),
        ("-€0.000000001", "-€0.000000001"),
        ("CN¥5.00", "CN¥5.00"),
        ("0.10", "0.10"),
        ("total", "total"),
        ("2026-11-29", "2026-11-29"),
    ],
)
def test_amounts_of_every_size(exact, expected) -> None:
    """What is no amount stays as it is."""
    assert expected == shortened(exact)


def test_times_and_shares() -> None:
    """Two units at most; a share that is neither none nor all does not look so."""
    assert ["410 ms", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"] == [
        duration(each) for each in (0.41, 12.3, 200, 7500, 3 * 86400 + 4 * 3600 + 5)
    ]
    assert ["0 %", "<1 %", "37 %", ">99 %", "100 %", "-"] == [
        share(*each) for each in ((0, 9), (1, 1000), (37, 100), (999, 1000), (5, 5), (0, 0))
    ]


def test_rows_are_sorted_as_their_kind_is() -> None:
    """Numbers the largest first, texts by the alphabet; what has no value comes last, both ways."""
    found = [row(name="b", charged_nanos=9), row(name="a", charged_nanos=10), row(name=None)]
    by = By(COLUMNS)
    sort_rows(found, by.convert("charged", None, None))
    assert [None, "a", "b"] == [each["name"] for each in found]
    sort_rows(found, by.convert("name", None, None))
    assert ["a", "b", None] == [each["name"] for each in found]
    sort_rows(found, by.convert("name:desc", None, None))
    assert ["b", "a", None] == [each["name"] for each in found]
    sort_rows(found, by.convert("charged:asc", None, None))
    assert ["b", "a", None] == [each["name"] for each in found]


# -- commands at a terminal ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    config = (
        SIMULATED + '[payments.invoice]\ninstructions = "Pay {amount} {currency}: {reference}"\n'
    )
    with in_process(tmp_path_factory.mktemp("relay"), config) as relay:
        relay.cli("accounts", "create", "--name", "farm", "--currency", "EUR", "--overdraft", "5")
        relay.cli("rates", "set", "EUR", "USD", "1.25")
        cap = ("--spend-cap", "2", "--rpm", "200000")
        key = relay.cli("keys", "create", "--name", "euros", "--account", "farm", *cap)["key"]
        for secret in (relay.key, relay.key, key):
            assert 200 == relay.chat(key=secret).status
        assert 400 == relay.chat("broken").status
        yield relay


def seen(relay: InProcess, *arguments: str, columns: int = 160) -> str:
    """What a command says at a terminal."""
    with terminal(columns) as tty, relay.reached():
        assert 0 == run([*arguments, "--data", str(relay.data)])
    return tty.said


def test_lists_name_keys_and_accounts_and_have_signs(relay) -> None:
    """Where a pipe has ids and bare amounts."""
    calls = seen(relay, "calls", "list").splitlines()
    assert {"KEY", "ACCOUNT"} <= {*calls[0].split()}
    [euros] = [line.split() for line in calls if " euros " in line]
    assert "farm" in euros
    assert any(word.startswith("€0.0") for word in euros)
    assert calls[-1].startswith("total USD")
    assert " farm " in seen(relay, "entries", "list")
    assert " €2.00 " in seen(relay, "keys", "list")
    shown = seen(relay, "keys", "show", "euros")
    assert "€2.00 (total)" in shown
    assert "200,000" in shown
    found = relay.cli("calls", "list", "--key", "euros")["data"][0]
    assert f"€{found['charged']}" in seen(relay, "calls", "show", found["id"])


def test_a_report_by_two_groups(relay) -> None:
    """The second within the first, sorted as asked, summed up for each currency; the API says both."""
    told = [
        line.split()
        for line in seen(relay, "report", "--by", "key,alias", "--sort", "calls").splitlines()
    ]
    assert ["KEY", "ALIAS", "CALLS"] == told[0][:3]
    assert ["first", "o3", "2"] == told[2][:3]
    assert {("first", "broken", "1"), ("euros", "o3", "1")} == {
        tuple(line[:3]) for line in told[3:5]
    }
    assert ["total", "EUR", "1"] == told[6][:3]
    assert ["total", "USD", "3"] == told[7][:3]
    rows = relay.cli("report", "--by", "key,alias", "--sort", "alias")["data"]
    assert [("broken", "first"), ("o3", "euros"), ("o3", "first")] == sorted(
        (row["then_name"], row["name"]) for row in rows
    )
    assert ["broken", "o3", "o3"] == [row["then_group"] for row in rows]
    [alone] = relay.cli("report", "--by", "account", "--currency", "eur")["data"]
    assert ("farm", False) == (alone["name"], "then_name" in alone)


def test_a_report_of_a_month(relay) -> None:
    """This one has the calls, the one before has none; it goes with no other bounds."""
    assert 4 == sum(row["calls"] for row in relay.cli("report", "--month", "this")["data"])
    assert [] == relay.cli("report", "--month", "last")["data"]
    assert [] == relay.cli("report", "--month", "2024-02")["data"]
    for wrong in (
        ("--month", "2024-13"),
        ("--month", "this", "--since", "1h"),
        ("--by", "key,key"),
    ):
        done = relay.command("report", *wrong)
        assert (2, "") == (done.returncode, done.stdout)


@pytest.mark.parametrize(
    ("month", "bounds"),
    [
        ("2024-02", ("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z")),
        ("2025-12", ("2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z")),
    ],
)
def test_a_month_has_its_own_bounds(month, bounds) -> None:
    assert bounds == Month().convert(month, None, None)


def test_money_that_came_is_told_in_its_currency(relay) -> None:
    """What came and what it became, in one sentence; the wrong sum in units, not in cents."""
    number = relay.cli("topups", "create", "farm", "7")["id"]
    wrong = relay.command("topups", "confirm", number, "8.50", "EUR")
    assert "8.50 EUR came, and the order is for 7.00 EUR" in wrong.stderr
    told = seen(relay, "topups", "confirm", number, "7", "EUR")
    assert f"€7.00 came for top-up {number}; €7.00 is credited to account farm\n" == told
    assert "€2.00 of the €7.00" in seen(relay, "topups", "refund", number, "--amount", "2")
    shown = dict(line.split("  ", 1) for line in seen(relay, "topups", "show", number).splitlines())
    assert ("€7.00", "farm") == (shown["to pay"].strip(), shown["account"].strip())


def test_the_guides_claims_come_last_and_as_claims(tmp_path) -> None:
    """A price list begins with providers'; in a pipe it stays in its order."""
    with terminal(160) as tty:
        assert 0 == run(["prices", "list", "--model", "o3", "--data", str(tmp_path)])
    rows = tty.said.splitlines()[2:]
    assert rows[0].startswith("openai")
    assert rows[-1].startswith("guide's")
    assert "1970" not in tty.said
    assert (
        run_command("prices", "list", "--model", "o3").stdout.splitlines()[1].startswith("guide ")
    )


def test_the_doctor_breaks_between_words(tmp_path, monkeypatch) -> None:
    """Beside its marks at a terminal; in a pipe a finding is a line."""
    for name in ("MERINO_API_KEY", "OPENAI_API_KEY", "MERINO_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with terminal(50) as tty:
        assert 1 == run(["doctor", "--all"])
    assert max(map(len, tty.said.splitlines())) <= 50
    assert " ".join(tty.said.split()) == " ".join(run_command("doctor").stdout.split())


def test_the_doctor_folds_what_is_fine(tmp_path, monkeypatch) -> None:
    """At a terminal one line tells of all checks that passed, before what is wrong."""
    for name in ("MERINO_API_KEY", "OPENAI_API_KEY", "MERINO_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with terminal(100) as tty:
        assert 1 == run(["doctor"])
    first, second, *_, last = tty.said.splitlines()
    assert "ok       1 check passed; --all shows them" == first
    assert second.startswith("problem  There is no key")
    assert "1 problem, no warnings, 1 fine" == last
    assert "The base URL is" in run_command("doctor").stdout
